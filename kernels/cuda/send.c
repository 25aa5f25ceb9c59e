/* send: host memory on its way to the device beside what it computes. A thread of ours copies piece after piece into one of two
 * pinned buffers, from where the GPU fetches it on a stream of its own; an event a buffer says when it may be filled again.
 * Whoever needs the first bytes waits until they are under way, and has the device's stream wait for the event of the last piece
 * that is, which is enough, as pieces go in order. Buffers, stream and events are the device's for good: pinning takes longer
 * than a volume's way. The trap: an event is recorded anew by the buffer's next piece; a wait is then for that one, which is later
 * still and thus right. */
#include "kernels/cuda/cuda.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFERS = 2, PIECE = 8 << 20 /* the first is all that a study waits for; many times what a copy costs to begin */ };

struct sending {
    device *d; /* borrowed */
    cudaStream_t stream;
    cudaEvent_t fetched[BUFFERS];
    char *pinned[BUFFERS];
    pthread_mutex_t lock;
    pthread_cond_t more;
    /* of the copy that is under way: */
    pthread_t thread;
    char *to;
    const char *from;
    size_t bytes;
    size_t queued;      /* under lock, as the next three: bytes that the stream was given */
    int last;           /* the buffer of the last of them */
    int stop;
    cudaError_t failed;
};

static cudaError_t send_piece(sending *s, int buffer, size_t at, size_t n)
{
    cudaError_t e = cudaEventSynchronize(s->fetched[buffer]);
    if (e != cudaSuccess) return e;
    memcpy(s->pinned[buffer], s->from + at, n);
    e = cudaMemcpyAsync(s->to + at, s->pinned[buffer], n, cudaMemcpyHostToDevice, s->stream);
    return e == cudaSuccess ? cudaEventRecord(s->fetched[buffer], s->stream) : e;
}

static void *send_all(void *of)
{
    sending *s = of;
    int buffer = 0, stop = 0;
    cudaError_t e = cudaSetDevice(s->d->ordinal);
    for (size_t at = 0, n; at < s->bytes && e == cudaSuccess && !stop; at += n, buffer = (buffer + 1) % BUFFERS) {
        n = s->bytes - at < PIECE ? s->bytes - at : PIECE;
        e = send_piece(s, buffer, at, n);
        pthread_mutex_lock(&s->lock);
        if (e == cudaSuccess) s->queued = at + n;
        s->last = buffer;
        stop = s->stop;
        pthread_cond_signal(&s->more);
        pthread_mutex_unlock(&s->lock);
    }
    pthread_mutex_lock(&s->lock);
    s->failed = e;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static status sending_open(device *d)
{
    sending *s = d->sending = calloc(1, sizeof *s);
    if (s == NULL) return COV_FAIL(COV_NOMEM, "no memory for copies");
    s->d = d;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->more, NULL);
    CUDA_TRY(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    for (int k = 0; k < BUFFERS; k++) {
        void *pinned;
        CUDA_TRY(cudaEventCreateWithFlags(&s->fetched[k], cudaEventDisableTiming));
        CUDA_TRY(cudaMallocHost(&pinned, PIECE));
        s->pinned[k] = pinned;
    }
    return COV_OK;
}

void cuda_send_close(device *d)
{
    sending *s = d->sending;
    if (s == NULL) return;
    if (s->stream != NULL) cudaStreamSynchronize(s->stream);
    for (int k = 0; k < BUFFERS; k++) {
        if (s->fetched[k] != NULL) cudaEventDestroy(s->fetched[k]);
        cudaFreeHost(s->pinned[k]);
    }
    if (s->stream != NULL) cudaStreamDestroy(s->stream);
    pthread_cond_destroy(&s->more);
    pthread_mutex_destroy(&s->lock);
    free(s);
    d->sending = NULL;
}

status cuda_send(device *d, void *to, const void *from_host, size_t bytes, sending **out)
{
    *out = NULL;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    status r = d->sending == NULL ? sending_open(d) : COV_OK;
    if (r != COV_OK) {
        cuda_send_close(d);
        return status_relay(r, __FILE__, __LINE__);
    }
    sending *s = d->sending;
    s->to = to;
    s->from = from_host;
    s->bytes = bytes;
    s->queued = 0;
    s->stop = 0;
    s->failed = cudaSuccess;
    if (pthread_create(&s->thread, NULL, send_all, s) != 0) return COV_FAIL(COV_NOMEM, "no thread for a copy of %zu bytes", bytes);
    *out = s;
    return COV_OK;
}

status cuda_arrived(sending *s, size_t bytes)
{
    cudaError_t e;
    if (bytes > s->bytes) return COV_FAIL(COV_BROKEN, "%zu bytes of %zu that were sent", bytes, s->bytes);
    if (bytes == 0) return COV_OK;
    CUDA_TRY(cudaSetDevice(s->d->ordinal));
    pthread_mutex_lock(&s->lock);
    while (s->queued < bytes && s->failed == cudaSuccess) pthread_cond_wait(&s->more, &s->lock);
    e = s->queued < bytes ? s->failed : cudaStreamWaitEvent(s->d->stream, s->fetched[s->last], 0);
    pthread_mutex_unlock(&s->lock);
    CUDA_TRY(e);
    return COV_OK;
}

/* What is under way is waited for: it writes to memory that may be released next. */
void cuda_send_end(sending **out)
{
    sending *s = *out;
    if (s == NULL) return;
    pthread_mutex_lock(&s->lock);
    s->stop = 1;
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    cudaStreamSynchronize(s->stream);
    *out = NULL;
}
