/* emulate: launches and memory of the emulated CUDA. Threads of a block are fibres that run until the next barrier, one
 * after the other; COVPIPE_EMULATE_ORDER=reverse runs threads and blocks from the last to the first, so that a result
 * that needs an order shows it. A kernel whose first thread meets no barrier needs no fibres. Fibres are made by ucontext
 * and switched by setjmp, which asks nothing of the kernel. While a stream is captured, work is kept in a list instead;
 * what CUDA forbids then breaks the capture here, too. */
#include "cuda_runtime.h"
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <ucontext.h>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

struct emulated_graph {
    std::vector<std::function<void()>> work;
};

namespace {
thread_local emulated_graph *captured; /* NULL: work runs at once. Captures are of a thread (cudaStreamCaptureModeThreadLocal) */
thread_local bool broken;              /* the capture met what cannot be captured */

cudaError_t perform(std::function<void()> work)
{
    if (captured) captured->work.push_back(std::move(work));
    else work();
    return cudaSuccess;
}

cudaError_t outside_of_captures()
{
    if (!captured) return cudaSuccess;
    broken = true;
    return cudaErrorStreamCaptureUnsupported;
}

enum { STACK = 64 << 10 };

struct fibre {
    ucontext_t context;
    jmp_buf at;
    bool begun;
    std::vector<char> stack;
    unsigned number;
    bool done;
};

struct runner {
    jmp_buf back;
    std::vector<fibre> fibres;
    fibre *now = nullptr;
    bool barrier = false; /* somebody waits at one */
    std::function<void()> body;
} all;

void place(unsigned number)
{
    threadIdx = dim3(number % blockDim.x, number / blockDim.x % blockDim.y, number / blockDim.x / blockDim.y);
}

void enter()
{
    all.body();
    all.now->done = true;
    _longjmp(all.back, 1);
}

void begin(fibre *f, unsigned number)
{
    if (f->stack.empty()) f->stack.resize(STACK);
    f->number = number;
    f->done = f->begun = false;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack.data();
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = nullptr;
    makecontext(&f->context, enter, 0);
}

void resume(fibre *f)
{
    place(f->number);
    all.now = f;
    if (_setjmp(all.back) == 0) {
        if (f->begun) _longjmp(f->at, 1);
        f->begun = true;
        setcontext(&f->context);
    }
    all.now = nullptr;
}

void run_block(unsigned threads, bool reverse)
{
    auto number = [&](unsigned k) { return reverse ? threads - 1 - k : k; };
    if (all.fibres.size() < threads) all.fibres.resize(threads);
    all.barrier = false;
    begin(&all.fibres[0], number(0));
    resume(&all.fibres[0]);
    if (!all.barrier) {
        for (unsigned k = 1; k < threads; k++) {
            place(number(k));
            all.body();
        }
        return;
    }
    for (unsigned k = 1; k < threads; k++) {
        begin(&all.fibres[k], number(k));
        resume(&all.fibres[k]);
    }
    for (bool live = true; live;) {
        live = false;
        for (unsigned k = 0; k < threads; k++) {
            if (all.fibres[k].done) continue;
            resume(&all.fibres[k]);
            live |= !all.fibres[k].done;
        }
    }
}
} // namespace

void __syncthreads()
{
    if (!all.now) {
        fprintf(stderr, "emulate: a thread reached a barrier that the block's first one did not\n");
        abort();
    }
    all.barrier = true;
    if (_setjmp(all.now->at) == 0) _longjmp(all.back, 1);
}

static void run_grid(dim3 grid, dim3 block, const std::function<void()> &body)
{
    const char *order = getenv("COVPIPE_EMULATE_ORDER");
    bool reverse = order && strcmp(order, "reverse") == 0;
    unsigned long long blocks = (unsigned long long)grid.x * grid.y * grid.z;
    gridDim = grid;
    blockDim = block;
    all.body = body;
    for (unsigned long long k = 0; k < blocks; k++) {
        unsigned long long b = reverse ? blocks - 1 - k : k;
        blockIdx = dim3((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y));
        run_block(block.x * block.y * block.z, reverse);
    }
}

cudaError_t emulate_launch(dim3 grid, dim3 block, std::function<void()> body)
{
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 || block.x * block.y * block.z > 1024)
        return cudaErrorInvalidValue;
    return perform([=]() { run_grid(grid, block, body); });
}

extern "C" {
cudaError_t cudaGetDeviceCount(int *count) { return *count = 1, cudaSuccess; }
cudaError_t cudaSetDevice(int ordinal) { return ordinal == 0 ? cudaSuccess : cudaErrorInvalidValue; }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *of, int)
{
    snprintf(of->name, sizeof of->name, "emulated on the CPU");
    of->major = 9;
    of->minor = 0;
    of->multiProcessorCount = 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *key, int room, int) { return snprintf(key, (size_t)room, "emulated"), cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) { return *stream = nullptr, cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return outside_of_captures(); }
/* Whatever an event could be waited for has been done. */
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return outside_of_captures(); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) { return *event = nullptr, cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return outside_of_captures(); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return outside_of_captures(); }
cudaError_t cudaMalloc(void **out, size_t bytes)
{
    if (captured) return *out = nullptr, outside_of_captures();
    if (posix_memalign(out, 256, bytes) != 0) return *out = nullptr, cudaErrorMemoryAllocation;
    memset(*out, 0xFF, bytes < (1u << 20) ? bytes : 1u << 20); /* NaN: contents are undefined */
    return cudaSuccess;
}
cudaError_t cudaFree(void *memory)
{
    if (captured) return outside_of_captures();
    return free(memory), cudaSuccess;
}
cudaError_t cudaMallocHost(void **out, size_t bytes) { return cudaMalloc(out, bytes); }
cudaError_t cudaFreeHost(void *memory) { return cudaFree(memory); }
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t)
{
    if (captured && kind != cudaMemcpyDeviceToDevice) return outside_of_captures();
    return perform([=]() { memmove(to, from, bytes); });
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t)
{
    return perform([=]() { memset(to, value, bytes); });
}
cudaError_t emulate_call(void (*f)(void *), const void *context, size_t bytes)
{
    const char *from = static_cast<const char *>(context);
    std::vector<char> kept(from, from + bytes);
    return perform([f, kept]() mutable { f(kept.data()); });
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode)
{
    if (captured) return outside_of_captures();
    captured = new emulated_graph;
    broken = false;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *out)
{
    *out = captured;
    captured = nullptr;
    if (!broken) return cudaSuccess;
    delete *out;
    *out = nullptr;
    return cudaErrorStreamCaptureInvalidated;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    *out = new emulated_graph(*graph);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t)
{
    if (captured) return outside_of_captures();
    for (const auto &work : graph->work) work();
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : "emulated error"; }
const char *cudaGetErrorName(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError"; }
}
