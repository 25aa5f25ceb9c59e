/* boxes: the boxes of a detector on the device; see kernels/boxes.h. A block takes a level of an image, then a block takes an
 * image. The best k of many scores are found by their keys: a score and its place make one number of 64 bits that no other place
 * has, so the k-th smallest key (digit by digit, by counting) parts those that stay from those that go, whatever thread
 * meets which; sorted, they are in the one order there is. Compiled without contraction of products and sums, so that areas and
 * overlaps are the host's. */
#include "kernels/cuda/launch.cuh"

enum { MANY = BOXES_SELECT_MOST /* threads of a block, and boxes that it holds */, DIGITS = 256, TILE = 32 };
typedef unsigned long long sort_key;

/* Of all threads of a block together. */
struct room {
    sort_key key[MANY];
    box at[MANY];
    int32_t kept[MANY];
    int32_t sums[MANY]; /* of scans; counts of digits */
    uint8_t gone[MANY];
    unsigned word[TILE], alive;
    int32_t count, left, digit;
};

/* Small for high scores; of equal ones small for the lower place; a NaN after all numbers. */
__device__ __forceinline__ sort_key key_of(float score, int place)
{
    unsigned bits = score == 0 ? 0 : __float_as_uint(score), up = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (sort_key)(isnan(score) ? ~0u : ~up) << 32 | (unsigned)place;
}

/* The k-th smallest key of n (1 <= k <= n), or a larger one with none between. F: i -> key, all different. */
template <class F> __device__ static sort_key kth(room *r, const F &f, int n, int k)
{
    int t = (int)threadIdx.x;
    sort_key known = 0, mask = 0; /* the digits found so far, and where they stand */
    for (int shift = 64 - 8; shift >= 0; shift -= 8) {
        __syncthreads();
        r->sums[t] = 0;
        __syncthreads();
        for (int i = t; i < n; i += MANY) {
            sort_key key = f(i);
            if ((key & mask) == known) atomicAdd(&r->sums[key >> shift & (DIGITS - 1)], 1);
        }
        __syncthreads();
        int own = r->sums[t], before;
        __syncthreads();
        before = sum_so_far<MANY>(own, r->sums) - own;
        if (own && before < k && k <= before + own) { /* one thread's alone */
            r->digit = t;
            r->left = k - before;
            r->count = own;
        }
        __syncthreads();
        known |= (sort_key)r->digit << shift;
        mask |= (sort_key)(DIGITS - 1) << shift;
        k = r->left;
        if (k == r->count) break; /* all that begin so stay */
    }
    return known | ~mask;
}

/* The keys of a whole block, ascending (bitonic). */
__device__ static void sort(sort_key *key)
{
    int t = (int)threadIdx.x;
    for (int run = 2; run <= MANY; run *= 2)
        for (int step = run / 2; step > 0; step /= 2) {
            int other = t ^ step;
            __syncthreads();
            if (other > t && (key[t] > key[other]) == ((t & run) == 0)) {
                sort_key swap = key[t];
                key[t] = key[other];
                key[other] = swap;
            }
        }
    __syncthreads();
}

/* The k smallest keys of n, ascending, to r->key; returns how many. */
template <class F> __device__ static int smallest(room *r, const F &f, int n, int k)
{
    int t = (int)threadIdx.x, got = k < n ? k : n;
    sort_key last = got < n ? kth(r, f, n, got) : ~(sort_key)0;
    __syncthreads();
    r->key[t] = ~(sort_key)0;
    if (t == 0) r->count = 0;
    __syncthreads();
    for (int i = t; i < n; i += MANY) {
        sort_key key = f(i);
        if (key <= last) r->key[atomicAdd(&r->count, 1)] = key;
    }
    sort(r->key);
    return got;
}

/* Greedy: of r->at[0..n-1], best first, those stay that go along with none that stayed before, `most` at most: r->kept. meets:
 * (better, worse) -> 1 where the worse goes. Returns how many stay. */
template <class F> __device__ static int thin(room *r, int n, int most, const F &meets)
{
    int t = (int)threadIdx.x;
    r->gone[t] = 0;
    if (t == 0) r->count = 0;
    __syncthreads();
    for (int first = 0; first < n && r->count < most; first += TILE) {
        int here = n - first < TILE ? n - first : TILE;
        if (t < here) {
            unsigned word = 0;
            for (int j = 0; j < t; j++) word |= (unsigned)meets(r->at[first + j], r->at[first + t]) << j;
            r->word[t] = word;
        }
        __syncthreads();
        if (t == 0) {
            unsigned alive = 0;
            int count = r->count;
            for (int j = 0; j < here && count < most; j++) {
                if (r->gone[first + j] || (r->word[j] & alive)) continue;
                alive |= 1u << j;
                r->kept[count++] = first + j;
            }
            r->alive = alive;
            r->count = count;
        }
        __syncthreads();
        if (t >= first + TILE && t < n && !r->gone[t])
            for (int j = 0; j < here; j++)
                if (r->alive >> j & 1 && meets(r->at[first + j], r->at[t])) {
                    r->gone[t] = 1;
                    break;
                }
        __syncthreads();
    }
    return r->count;
}

struct overlaps {
    float iou;
    __device__ int operator()(box a, box b) const { return box_iou(a, b) > iou; }
};
struct holds {
    float share;
    __device__ int operator()(box a, box b) const { return box_shared(b, a) > share * box_area(b); }
};

/* What a level leaves: (images, levels, most), and how many. */
struct leavings {
    box *at;
    float *score;
    int32_t *count;
};

template <class T> struct level_keys {
    const T *score;
    int step;
    __device__ sort_key operator()(int i) const { return key_of(get(score[(int64_t)i * step]), i); }
};

template <class T>
__global__ void __launch_bounds__(MANY) level_kernel(boxes_choice c, const T *score, const T *delta, const box *from, leavings out)
{
    __shared__ room r;
    int t = (int)threadIdx.x, image = (int)blockIdx.x / c.levels, k = (int)blockIdx.x - image * c.levels;
    int64_t places = c.first[c.levels], start = image * places + c.first[k];
    int n = (int)(c.first[k + 1] - c.first[k]), ok = 0;
    box b = {};
    level_keys<T> keys = {score + start * c.score_step + c.score_first, c.score_step};
    int got = smallest(&r, keys, n, c.candidates), place = t < got ? (int)(unsigned)r.key[t] : 0;
    if (t < got) {
        float d[4];
        for (int e = 0; e < 4; e++) d[e] = get(delta[4 * (start + place) + e]);
        box of = from ? from[start + place] : box_anchor(&c.anchors[k], c.wide[k], place);
        b = box_clip(box_decode(of, d, c.weight), c.height, c.width);
        ok = b.y1 - b.y0 >= c.side && b.x1 - b.x0 >= c.side;
    }
    __syncthreads(); /* keys are read */
    int upto = sum_so_far<MANY>(ok, r.sums);
    if (ok) {
        r.at[upto - 1] = b;
        r.key[upto - 1] = (unsigned)place;
    }
    if (t == MANY - 1) r.left = upto;
    __syncthreads();
    int count = thin(&r, r.left, c.most, overlaps{c.iou});
    if (t < count) {
        int64_t to = (int64_t)blockIdx.x * c.most + t;
        out.at[to] = r.at[r.kept[t]];
        out.score[to] = get(score[(start + (int)r.key[r.kept[t]]) * c.score_step + c.score_first]);
    }
    if (t == 0) out.count[blockIdx.x] = count;
}

struct image_keys { /* places that hold nothing come last of all */
    const float *score;
    const int32_t *count;
    int most;
    __device__ sort_key operator()(int i) const
    {
        int level = i / most;
        return i - level * most < count[level] ? key_of(score[i], i) : ~(sort_key)0 << 31 | (unsigned)i;
    }
};

__global__ void __launch_bounds__(MANY) image_kernel(boxes_choice c, leavings in, float *to)
{
    __shared__ room r;
    int t = (int)threadIdx.x, row = c.scored ? 5 : 4, all = 0;
    int64_t image = blockIdx.x, start = image * c.levels * c.most;
    const int32_t *count = in.count + image * c.levels;
    for (int k = 0; k < c.levels; k++) all += count[k];
    smallest(&r, image_keys{in.score + start, count, c.most}, c.levels * c.most, c.most);
    int n = all < c.most ? all : c.most;
    int64_t place = t < n ? start + (int)(unsigned)r.key[t] : 0;
    if (t < n) r.at[t] = in.at[place];
    r.kept[t] = t;
    __syncthreads();
    int stay = c.inside < 1 ? thin(&r, n, c.most, holds{c.inside}) : n;
    if (t >= c.most) return;
    float *at = to + (image * c.most + t) * row;
    box b = {};
    if (t < stay) b = r.at[r.kept[t]];
    at[0] = b.y0;
    at[1] = b.x0;
    at[2] = b.y1;
    at[3] = b.x1;
    if (c.scored) at[4] = t < stay ? in.score[start + (int)(unsigned)r.key[r.kept[t]]] : 0;
}

template <class T>
static status choose(device *d, const boxes_choice *c, int64_t images, const void *score, const void *delta, const float *from, float *to)
{
    size_t rows = (size_t)images * (size_t)c->levels, boxes = rows * (size_t)c->most;
    COV_TRY(cuda_reserve(d, boxes * (sizeof(box) + sizeof(float)) + rows * sizeof(int32_t)));
    leavings left = {(box *)d->scratch, (float *)((box *)d->scratch + boxes), (int32_t *)((float *)((box *)d->scratch + boxes) + boxes)};
    LAUNCH_OF(d, level_kernel<T>, dim3((unsigned)rows), MANY, *c, (const T *)score, (const T *)delta, (const box *)from, left);
    LAUNCH_OF(d, image_kernel, dim3((unsigned)images), MANY, *c, left, to);
    return COV_OK;
}

extern "C" status cuda_boxes_select(device *d, const boxes_choice *c, int64_t images, tensor_type type, const void *score, const void *delta,
                                    const float *from, float *to)
{
    COV_TRY(boxes_choice_check(c, images, type, from));
    if (images == 0) return COV_OK;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    return type == TENSOR_BF16 ? choose<bf16>(d, c, images, score, delta, from, to) : choose<float>(d, c, images, score, delta, from, to);
}

/* ---- around: a block a row, then a block an image */
enum { LEAST, MOST, ENDS };

/* The smallest and the largest of all threads' numbers, for the first of them. */
__device__ static void ends_of(int32_t (*room)[BLOCK], int least, int most, int32_t ends[ENDS])
{
    int t = (int)threadIdx.x;
    room[LEAST][t] = least;
    room[MOST][t] = most;
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if (t < half) {
            if (room[LEAST][t + half] < room[LEAST][t]) room[LEAST][t] = room[LEAST][t + half];
            if (room[MOST][t + half] > room[MOST][t]) room[MOST][t] = room[MOST][t + half];
        }
        __syncthreads();
    }
    ends[LEAST] = room[LEAST][0];
    ends[MOST] = room[MOST][0];
    __syncthreads();
}

template <class T> __global__ void __launch_bounds__(BLOCK) row_kernel(int w, int c, const T *x, int32_t *rows)
{
    __shared__ int32_t room[ENDS][BLOCK];
    int32_t ends[ENDS];
    const T *row = x + (int64_t)blockIdx.x * w * c;
    int least = w, most = 0;
    for (int i = (int)threadIdx.x; i < w; i += BLOCK) {
        if (!(get(row[(int64_t)i * c]) != 0)) continue;
        least = i < least ? i : least;
        most = i + 1;
    }
    ends_of(room, least, most, ends);
    if (threadIdx.x != 0) return;
    rows[ENDS * (int64_t)blockIdx.x + LEAST] = ends[LEAST];
    rows[ENDS * (int64_t)blockIdx.x + MOST] = ends[MOST];
}

__global__ void __launch_bounds__(BLOCK) around_kernel(int h, int w, const int32_t *rows, float *to)
{
    __shared__ int32_t room[ENDS][BLOCK];
    int32_t y[ENDS], x[ENDS];
    int y0 = h, y1 = 0, x0 = w, x1 = 0;
    rows += ENDS * (int64_t)blockIdx.x * h;
    for (int i = (int)threadIdx.x; i < h; i += BLOCK) {
        if (rows[ENDS * i + MOST] == 0) continue;
        y0 = i < y0 ? i : y0;
        y1 = i + 1;
        x0 = rows[ENDS * i + LEAST] < x0 ? rows[ENDS * i + LEAST] : x0;
        x1 = rows[ENDS * i + MOST] > x1 ? rows[ENDS * i + MOST] : x1;
    }
    ends_of(room, y0, y1, y);
    ends_of(room, x0, x1, x);
    if (threadIdx.x != 0) return;
    float *b = to + 4 * (int64_t)blockIdx.x;
    b[0] = (float)(y[MOST] ? y[LEAST] : 0);
    b[1] = (float)(y[MOST] ? x[LEAST] : 0);
    b[2] = (float)(y[MOST] ? y[MOST] : h);
    b[3] = (float)(y[MOST] ? x[MOST] : w);
}

extern "C" status cuda_boxes_around(device *d, tensor_type type, int64_t n, int64_t h, int64_t w, int64_t c, int64_t channel, const void *x,
                                    float *to)
{
    COV_TRY(boxes_around_check(type, n, h, w, c, channel));
    if (n == 0) return COV_OK;
    CUDA_TRY(cudaSetDevice(d->ordinal));
    COV_TRY(cuda_reserve(d, (size_t)(n * h) * ENDS * sizeof(int32_t)));
    int32_t *rows = (int32_t *)d->scratch;
    dim3 blocks((unsigned)(n * h));
    if (type == TENSOR_BF16) LAUNCH(d, row_kernel<bf16>, blocks, (int)w, (int)c, (const bf16 *)x + channel, rows);
    else LAUNCH(d, row_kernel<float>, blocks, (int)w, (int)c, (const float *)x + channel, rows);
    LAUNCH(d, around_kernel, dim3((unsigned)n), (int)h, (int)w, (const int32_t *)rows, to);
    return COV_OK;
}

/* ---- paste: i counts the bytes of all regions */
struct paste_pixel {
    boxes_pasting p;
    __device__ void operator()(int64_t i) const
    {
        int k = 0;
        int64_t at = i;
        for (int64_t n; k + 1 < p.count && at >= (n = (int64_t)(p.y1[k] - p.y0[k]) * (p.x1[k] - p.x0[k])); k++) at -= n;
        int64_t wide = p.x1[k] - p.x0[k], row = at / wide, y = p.y0[k] + row, x = p.x0[k] + at - row * wide;
        bool seen = !p.inside || p.inside[y * p.nx + x];
        p.to[i] = seen ? box_pasted(p.probability + (int64_t)k * p.size * p.size, p.size, p.at[k], p.threshold, y, x) : 0;
    }
};

extern "C" status cuda_boxes_paste(device *d, const boxes_pasting *p)
{
    COV_TRY(boxes_pasting_check(p));
    CUDA_TRY(cudaSetDevice(d->ordinal));
    return each(d, boxes_pasting_at(p, p->count), paste_pixel{*p});
}
