/* The CUDA kernel's own source, run by a host compiler: proves its loops without a GPU. Built and called by the tests. */
#define ME_EMULATION
#include "preprocess.cu"

#include <cstddef>
#include <cstdio>
#include <cstring>
#ifdef ME_FIBERS
#include <ucontext.h>
#endif

me_index blockIdx;
int me_first_thread, me_thread_step; /* threads run upwards or downwards */

static const me_range *ranges;
static int range_count, range_found;
static char fault[200];

me_u8 *me_at(me_u64 address, me_i32 size, bool write) {
    static me_u64 scratch;
    for (int tried = 0; tried < range_count; tried++) {
        const me_range &range = ranges[range_found];
        if (address >= range.begin && address + (me_u64)size <= range.begin + range.size) {
            if (write && !range.writable) break;
            if (address % (me_u64)size) break;
            return range.data + (address - range.begin);
        }
        range_found = range_found + 1 < range_count ? range_found + 1 : 0;
    }
    if (!fault[0])
        snprintf(fault, sizeof fault, "block (%d, %d, %d): %s of %d bytes at %#llx, outside or misaligned", blockIdx.x,
                 blockIdx.y, blockIdx.z, write ? "write" : "read", size, address);
    return (me_u8 *)&scratch;
}

#ifdef ME_FIBERS
/* Threads of a block one after the other, each as far as its next barrier: what relies on an order that no barrier gives
 * goes wrong in one of the two directions. */
enum { ME_STACK = 1 << 16 };
int me_thread;
static ucontext_t me_scheduler, me_fibers[ME_THREADS];
static char me_stacks[ME_THREADS][ME_STACK];
static int me_barriers[ME_THREADS]; /* that a thread has come to; -1: it has ended */
static me_u64 me_jobs;

void me_barrier() {
    me_barriers[me_thread]++;
    swapcontext(&me_fibers[me_thread], &me_scheduler);
}

static void me_run_thread() {
    memedge_preprocess(me_jobs);
    me_barriers[me_thread] = -1;
}

static void me_run_block(me_u64 jobs) {
    me_jobs = jobs;
    for (int t = 0; t < ME_THREADS; t++) {
        me_barriers[t] = 0;
        getcontext(&me_fibers[t]);
        me_fibers[t].uc_stack.ss_sp = me_stacks[t];
        me_fibers[t].uc_stack.ss_size = ME_STACK;
        me_fibers[t].uc_link = &me_scheduler;
        makecontext(&me_fibers[t], me_run_thread, 0);
    }
    do {
        for (me_thread = me_first_thread; me_thread >= 0 && me_thread < ME_THREADS; me_thread += me_thread_step)
            swapcontext(&me_scheduler, &me_fibers[me_thread]);
        for (int t = 1; t < ME_THREADS; t++)
            if (me_barriers[t] != me_barriers[0]) {
                snprintf(fault, sizeof fault, "threads 0 and %d do not meet at the same barrier", t);
                return;
            }
    } while (me_barriers[0] >= 0);
}
#else
static void me_run_block(me_u64 jobs) { memedge_preprocess(jobs); }
#endif

/* Runs a launch; null, or what went wrong first. `backwards`: threads in reverse order. */
extern "C" const char *me_emulate(const me_range *given, int count, me_u64 jobs, const int *grid, int backwards) {
    ranges = given;
    range_count = count;
    range_found = 0;
    fault[0] = 0;
    me_first_thread = backwards ? ME_THREADS - 1 : 0;
    me_thread_step = backwards ? -1 : 1;
    for (int z = 0; z < grid[2]; z++)
        for (int y = 0; y < grid[1]; y++)
            for (int x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                /* Rubbish, so that nothing is read that the block did not write. */
                memset(me_pool, 0xa5, sizeof me_pool);
                memset(me_parameters, 0xa5, sizeof me_parameters);
                me_run_block(jobs);
            }
    return fault[0] ? fault : nullptr;
}

/* Sizes and offsets, for the test of the structure's twin in Python; the tile. */
extern "C" void me_layout(int *out) {
    const int found[] = {
        (int)sizeof(me_job), (int)offsetof(me_job, pitch), (int)offsetof(me_job, format), (int)offsetof(me_job, half_y),
        (int)offsetof(me_job, color), (int)offsetof(me_job, x), (int)offsetof(me_job, y), (int)offsetof(me_job, table),
        (int)offsetof(me_job, target), ME_TILE_W, ME_TILE_H, ME_THREADS,
    };
    memcpy(out, found, sizeof found);
}
