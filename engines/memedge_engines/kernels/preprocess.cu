/* The preprocessing kernel: pictures of any pixel format to the planes of a tensor, one launch for a batch.
 *
 * A block of 256 threads makes a tile of 32 x 8 results (stored orientation) of one picture. It works on up to 64 groups
 * of four source columns at a time, and on as many source rows as its shared memory holds:
 *   1. convert: each source pixel under the tile once, to 8-bit R, G, B or grey, into shared memory;
 *   2. down:    for each row of the tile, the weighted sum of its source rows, two rows and one column an instruction;
 *               sums stay in registers while source rows come in parts;
 *   3. across:  one thread a result, over the columns at hand; sums stay in registers while columns come in parts.
 * Then the level is looked up in the tensor's table of values and stored where the turned picture has it; for quarter
 * turns, neighbouring threads take results of one column, so that they store side by side.
 *
 * Everything that differs from picture to picture comes from `jobs` in device memory, so that a captured launch stays
 * valid. Grid: (tiles, 1, pictures), where tiles is enough for either orientation; a job of width 0 is no picture.
 *
 * Cost, for scale s down each axis and a tile that reads (32 s + s) x (8 s + s) pixels, 1.16 times its share:
 *   bytes from memory, a source pixel: 1.5 (4:2:0), 2 (4:2:2), 3 (RGB); a result: 3 x the element's size; the tiles'
 *   common borders come from the L2 cache;
 *   integer instructions, a source pixel: convert 5 (RGB), 28 (NV12); down 6.8; across 21 / s. For NV12 at s = 4.2 that
 *   is some 40 x 1.16 for 1.5 bytes read and .7 written: arithmetic, not memory, is the limit on every GPU so far;
 *   for RGB some 17 x 1.16 for 3.7 bytes, near the balance of large GPUs.
 */
#ifdef ME_EMULATION
#include "emulate.h"
#else
#include "device.h"
#endif
#include "sources.h"

#define ME_TILE_W 32
#define ME_TILE_H 8
#define ME_THREADS 256
#define ME_GROUPS 64     /* groups of four columns at a time */
#define ME_POOL_WORDS 6144 /* shared memory */
#define ME_SHARES (ME_TILE_H * ME_GROUPS / ME_THREADS) /* sums down a column that one thread holds */

#if ME_TILE_W * ME_TILE_H != ME_THREADS
#error "one thread makes one result"
#endif

/* A range of source columns and rows of one step, and where its levels lie: [channel][rows_most][groups_most] words. */
struct me_part {
    int col, groups, row, rows;
    int groups_most, rows_most;
    int row_step, group_step; /* ME_THREADS in rows of groups_most groups */
};

/* What a thread keeps: its first pair of row and group, sums of the result that it makes, and of the columns that it sums down. */
template <int CHANNELS>
struct me_result {
    int row, group;
    me_i32 sums[CHANNELS];
};
template <int CHANNELS>
struct me_columns {
    me_u32 sums[ME_SHARES][CHANNELS][4];
};

/* A thread's next pair of row and group: ME_THREADS pairs on. */
ME_FN void me_advance(const me_part &p, int &row, int &group) {
    row += p.row_step;
    group += p.group_step;
    if (group >= p.groups_most) {
        group -= p.groups_most;
        row++;
    }
}

template <int CHANNELS, typename Load>
ME_FN void me_convert(const me_part &p, int row, int group, me_u32 *levels, Load load) {
    while (row < p.rows) {
        if (group < p.groups) {
            me_u32 words[CHANNELS];
            load(p.row + row, p.col + 4 * group, words);
            ME_UNROLL
            for (int c = 0; c < CHANNELS; c++) levels[(c * p.rows_most + row) * p.groups_most + group] = words[c];
        }
        me_advance(p, row, group);
    }
}

template <int CHANNELS, int FORMAT>
ME_FN void me_convert_yuv(const me_source &s, const me_part &p, int row, int group, me_u32 *levels) {
    me_convert<CHANNELS>(p, row, group, levels,
                         [&](int r, int col, me_u32 *words) { me_yuv<CHANNELS, FORMAT>(s, r, col, words); });
}

template <int CHANNELS>
ME_FN void me_convert_any(const me_source &s, const me_part &p, int row, int group, me_u32 *levels) {
    switch (s.format) {
    case ME_RGB24:
    case ME_BGR24:
        me_convert<CHANNELS>(p, row, group, levels,
                             [&](int r, int col, me_u32 *words) { me_packed<CHANNELS>(s, r, col, words); });
        break;
    case ME_GRAY8:
        me_convert<1>(p, row, group, levels, [&](int r, int col, me_u32 *words) { me_luma(s, r, col, words); });
        break;
    case ME_NV12: me_convert_yuv<CHANNELS, ME_NV12>(s, p, row, group, levels); break;
    case ME_I420:
    case ME_YUV422P: me_convert_yuv<CHANNELS, ME_I420>(s, p, row, group, levels); break;
    case ME_YUV444P: me_convert_yuv<CHANNELS, ME_YUV444P>(s, p, row, group, levels); break;
    case ME_YUYV422: me_convert_yuv<CHANNELS, ME_YUYV422>(s, p, row, group, levels); break;
    }
}

/* Adds what rows p.row..p.row+p.rows-1 bring to the sums of four columns. first, weights: of the sums' result. */
template <int CHANNELS>
ME_FN void me_down(const me_part &p, const me_u32 *levels, int group, int first, me_u64 weights, int taps,
                   me_u32 sums[CHANNELS][4]) {
    const int from = me_most(first, p.row), to = me_least(first + taps, p.row + p.rows);
    ME_ROLLED
    for (int row = from; row < to; row += 2) {
        const bool both = row + 1 < to;
        me_u32 pair = me_read16(weights + 2 * (row - first));
        if (both) pair |= me_read16(weights + 2 * (row - first) + 2) << 16;
        ME_UNROLL
        for (int c = 0; c < CHANNELS; c++) {
            const me_u32 *here = levels + (c * p.rows_most + row - p.row) * p.groups_most + group;
            const me_u32 upper = here[0], lower = both ? here[p.groups_most] : 0;
            const me_u32 left = me_pick(upper, lower, 0x5140), right = me_pick(upper, lower, 0x7362);
            sums[c][0] = me_dot_low(pair, left, sums[c][0]);
            sums[c][1] = me_dot_high(pair, left, sums[c][1]);
            sums[c][2] = me_dot_low(pair, right, sums[c][2]);
            sums[c][3] = me_dot_high(pair, right, sums[c][3]);
        }
    }
}

/* Adds what the part's columns bring to one result. between: [channel][ME_TILE_H][4 * groups_most]. */
template <int CHANNELS>
ME_FN void me_sum_across(const me_part &p, const me_u16 *between, int y, int first, me_u64 weights, int taps,
                         me_i32 sums[CHANNELS]) {
    const int from = me_most(first, p.col), to = me_least(first + taps, p.col + 4 * p.groups);
    const me_u16 *row = between + 4 * y * p.groups_most - p.col;
    ME_ROLLED
    for (int col = from; col < to; col++) {
        const me_i32 weight = (me_i32)me_read16(weights + 2 * (col - first));
        ME_UNROLL
        for (int c = 0; c < CHANNELS; c++) sums[c] += weight * (me_i32)row[4 * c * ME_TILE_H * p.groups_most + col];
    }
}

ME_FN void me_store(const me_job &job, int channel, int level, int place) {
    const int plane = job.x.count * job.y.count;
    const me_u64 value = job.table + (me_u64)(channel * 256 + level) * (me_u32)job.element;
    const me_u64 target = job.target + ((me_u64)channel * (me_u32)plane + (me_u32)place) * (me_u32)job.element;
    if (job.element == 4) me_write32(target, me_read32(value));
    else if (job.element == 2) me_write16(target, me_read16(value));
    else me_write8(target, me_read8(value));
}

/* One tile, results from (left, top) on. CHANNELS: of the levels; the tensor may repeat one level in three planes. */
template <int CHANNELS>
ME_FN void me_tile(const me_job &job, int left, int top, me_u32 *pool) {
    const me_source source = me_source_of(&job);
    const int across = me_least(ME_TILE_W, job.x.count - left), down = me_least(ME_TILE_H, job.y.count - top);
    const int col_begin = (int)me_read32(job.x.first + 4 * left) & ~3;
    const int col_end = (int)me_read32(job.x.first + 4 * (left + across - 1)) + job.x.taps;
    const int row_begin = (int)me_read32(job.y.first + 4 * top);
    const int row_end = (int)me_read32(job.y.first + 4 * (top + down - 1)) + job.y.taps;
    const int groups = (col_end - col_begin + 3) >> 2, parts = (groups + ME_GROUPS - 1) / ME_GROUPS;
    me_part p;
    p.groups_most = (groups + parts - 1) / parts;
    me_u16 *between = (me_u16 *)pool;
    me_u32 *levels = pool + CHANNELS * ME_TILE_H * p.groups_most * 2;
    p.row_step = ME_THREADS / p.groups_most;
    p.group_step = ME_THREADS % p.groups_most;
    p.rows_most = (ME_POOL_WORDS - CHANNELS * ME_TILE_H * p.groups_most * 2) / (CHANNELS * p.groups_most);
    const bool turned = job.rotation == 90 || job.rotation == 270;

    ME_OWN(me_result<CHANNELS>, result);
    ME_OWN(me_columns<CHANNELS>, columns);
    ME_EACH_THREAD(t) {
        ME_MY(result, t).row = t / p.groups_most;
        ME_MY(result, t).group = t % p.groups_most;
        for (int c = 0; c < CHANNELS; c++) ME_MY(result, t).sums[c] = 0;
    }
    for (int begin = 0; begin < groups; begin += p.groups_most) {
        p.col = col_begin + 4 * begin;
        p.groups = me_least(p.groups_most, groups - begin);
        for (p.row = row_begin; p.row < row_end; p.row += p.rows_most) {
            p.rows = me_least(p.rows_most, row_end - p.row);
            ME_EACH_THREAD(t) {
                me_convert_any<CHANNELS>(source, p, ME_MY(result, t).row, ME_MY(result, t).group, levels);
            }
            ME_SYNC();
            const bool fresh = p.row == row_begin, last = p.row + p.rows == row_end;
            ME_EACH_THREAD(t) {
                int y = ME_MY(result, t).row, group = ME_MY(result, t).group;
                ME_UNROLL
                for (int share = 0; share < ME_SHARES; share++, me_advance(p, y, group)) {
                    me_u32(*sums)[4] = ME_MY(columns, t).sums[share];
                    if (fresh) {
                        ME_UNROLL
                        for (int i = 0; i < 4 * CHANNELS; i++) sums[i >> 2][i & 3] = 0;
                    }
                    if (y >= down || group >= p.groups) continue;
                    const int first = (int)me_read32(job.y.first + 4 * (top + y));
                    me_down<CHANNELS>(p, levels, group, first, job.y.weight + 2 * (me_u64)((top + y) * job.y.taps),
                                      job.y.taps, sums);
                    if (!last) continue;
                    ME_UNROLL
                    for (int c = 0; c < CHANNELS; c++) {
                        me_u16 *to = between + 4 * ((c * ME_TILE_H + y) * p.groups_most + group);
                        ME_UNROLL
                        for (int i = 0; i < 4; i++) to[i] = (me_u16)me_between((me_i32)sums[c][i]);
                    }
                }
            }
            ME_SYNC();
        }
        /* What follows is done by all threads before the next part's first ME_SYNC, and `between` is written after it. */
        ME_EACH_THREAD(t) {
            const int x = turned ? t / ME_TILE_H : t % ME_TILE_W, y = turned ? t % ME_TILE_H : t / ME_TILE_W;
            if (x < across && y < down)
                me_sum_across<CHANNELS>(p, between, y, (int)me_read32(job.x.first + 4 * (left + x)),
                                        job.x.weight + 2 * (me_u64)((left + x) * job.x.taps), job.x.taps,
                                        ME_MY(result, t).sums);
        }
    }
    ME_EACH_THREAD(t) {
        const int x = turned ? t / ME_TILE_H : t % ME_TILE_W, y = turned ? t % ME_TILE_H : t / ME_TILE_W;
        if (x < across && y < down) {
            const int place = me_turned(left + x, top + y, job.x.count, job.y.count, job.rotation);
            const int planes = job.order == ME_ORDER_GRAY ? 1 : 3;
            for (int c = 0; c < planes; c++) {
                const int from = job.order == ME_ORDER_BGR ? 2 - c : c;
                me_i32 sum = ME_MY(result, t).sums[0];
                ME_UNROLL
                for (int i = 1; i < CHANNELS; i++) sum = from == i ? ME_MY(result, t).sums[i] : sum;
                me_store(job, c, me_level(sum), place);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(ME_THREADS, 4) memedge_preprocess(const me_job *__restrict__ jobs) {
    ME_SHARED(pool, ME_POOL_WORDS);
    const me_job &job = jobs[blockIdx.z];
    if (job.width == 0) return;
    const int tiles_x = (job.x.count + ME_TILE_W - 1) / ME_TILE_W;
    const int left = (int)blockIdx.x % tiles_x * ME_TILE_W, top = (int)blockIdx.x / tiles_x * ME_TILE_H;
    if (top >= job.y.count) return;
    if (job.order == ME_ORDER_GRAY || job.format == ME_GRAY8) me_tile<1>(job, left, top, pool);
    else me_tile<3>(job, left, top, pool);
}
