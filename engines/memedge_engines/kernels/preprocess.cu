/* The preprocessing kernel: pictures of any pixel format to the planes of a tensor, one launch for a batch.
 *
 * A block of 256 threads makes a tile of 32 x 8 results (stored orientation) of one picture. It works on up to 64 groups
 * of four source columns at a time, and on as many source rows as its shared memory holds:
 *   1. convert: each source pixel under the tile once, to 8-bit R, G, B or grey, into shared memory; two rows of four
 *               columns at a time, which have their chroma rows in common, stored so that
 *   2. down:    adds two rows of one column to the sum of a result's row in one instruction; where the rows come in several
 *               parts, sums are kept in shared memory between them;
 *   3. across:  one thread a result, over the columns at hand; sums stay in registers while columns come in parts.
 * Then the level is looked up in the tensor's table of values and stored where the turned picture has it; for quarter
 * turns, neighbouring threads take results of one column, so that they store side by side.
 *
 * Everything that differs from picture to picture comes from `jobs` in device memory, so that a captured launch stays
 * valid. Grid: (tiles, 1, pictures), where tiles is enough for either orientation; a job of width 0 is no picture.
 *
 * Cost a source pixel, at 1080p to 256 lines (s = 4.2 source pixels a result along each axis), counted in sm_87 code:
 *   instructions: convert 9 (RGB), 34 (NV12); down 28 for two rows and four columns, 9; across 9 a tap, 5; times 1.2,
 *   because neighbouring tiles share 2 s columns and rows;
 *   bytes of memory: 1.5 (4:2:0) or 3 (RGB) read, 12 / s^2 = .7 written (float); what tiles share comes from the cache.
 * Per byte that is some 8 instructions for RGB, about what large GPUs have to spare at full bandwidth, but 27 for NV12:
 * there the exact colour arithmetic is the limit, not memory.
 */
#ifdef ME_EMULATION
#include "emulate.h"
#else
#include "device.h"
#endif
#include "sources.h"

#define ME_TILE_W 32
#define ME_TILE_H 8
#define ME_THREADS (ME_TILE_W * ME_TILE_H) /* one thread makes one result */
#define ME_BLOCKS 4                        /* that share a multiprocessor: what the registers are limited for */
#define ME_POOL_WORDS 6144 /* shared memory */
#define ME_GROUPS 64       /* groups of four columns at a time, */
#define ME_GROUPS_SAVED 32 /* where sums have to be kept between parts of the source rows */

ME_SHARED(me_pool, ME_POOL_WORDS);
ME_SHARED(me_parameters, sizeof(me_job) / 4);

/* What a tile works on at a time, and where it lies in me_pool, for `groups_most` groups a row:
 * between [ME_TILE_H][4 * groups_most][channel] of me_u16, saved [ME_TILE_H][groups_most][channel][4] of me_u32,
 * levels [rows_most / 2][groups_most][channel][2] words of sources.h. */
struct me_part {
    int col, groups, row, rows; /* from row `row`, which may be -1; `rows` is even, and may reach beyond the source */
    int groups_most, rows_most; /* rows_most is even */
    int pairs_at_once;          /* pairs of rows that ME_THREADS threads convert, one thread a group */
    int saved, levels;          /* first words; `between` begins at 0 */
};

/* What a thread keeps from part to part: its place in the parts, the sums of the result that it makes. */
template <int CHANNELS>
struct me_own {
    int row, group;
    me_i32 sums[CHANNELS];
};

/* What one thread converts: four columns from `col` on, every `step`th pair of rows from row `row` on, `pairs` in all. `to`:
 * its first word in me_pool, `stride` words from pair to pair; `gray`: of three channels, one is wanted. */
struct me_column {
    int col, row, pairs, step, to, stride;
    bool gray;
};

template <int CHANNELS, typename Load>
ME_FN void me_convert_by(me_column c, Load load) {
    ME_ROLLED
    for (; c.pairs > 0; c.pairs--, c.row += 2 * c.step, c.to += c.stride) {
        me_u32 words[2 * CHANNELS];
        load(c.row, c.col, words);
        if (CHANNELS == 3 && c.gray) {
            me_write_two(me_pool + c.to, me_gray_word(words[0], words[2], words[4]), me_gray_word(words[1], words[3], words[5]));
            continue;
        }
        ME_UNROLL
        for (int i = 0; i < CHANNELS; i++) me_write_two(me_pool + c.to + 2 * i, words[2 * i], words[2 * i + 1]);
    }
}

template <int FORMAT>
ME_FN void me_convert_yuv(const me_source &s, const me_column &c) {
    me_convert_by<3>(c, [&](int row, int col, me_u32 *words) { me_yuv<FORMAT>(s, row, col, words); });
}

ME_CALLED void me_convert(const me_job &job, me_column c) {
    const me_source s = me_source_of(job);
    switch (s.format) {
    case ME_RGB24:
    case ME_BGR24: me_convert_by<3>(c, [&](int row, int col, me_u32 *words) { me_packed(s, row, col, words); }); break;
    case ME_GRAY8: me_convert_by<1>(c, [&](int row, int col, me_u32 *words) { me_luma(s, row, col, words); }); break;
    case ME_YUYV422: me_convert_by<3>(c, [&](int row, int col, me_u32 *words) { me_yuyv(s, row, col, words); }); break;
    case ME_NV12: me_convert_yuv<ME_NV12>(s, c); break;
    case ME_I420:
    case ME_YUV422P: me_convert_yuv<ME_I420>(s, c); break;
    case ME_YUV444P: me_convert_yuv<ME_YUV444P>(s, c); break;
    }
}

/* Row y of the tile, four columns: adds what the part's rows bring; then saves the sums, or rounds them when they are
 * whole. axis: down; result: y counted from the picture's first. */
template <int CHANNELS>
ME_FN void me_down(const me_part &p, const me_axis &axis, int result, int y, int group, bool fresh, bool whole) {
    const int first = (int)me_read32(axis.first + 4 * (me_u64)result), taps = axis.taps;
    const int from = me_most(first - p.row, 0) >> 1, to = me_least(first + taps - p.row + 1, p.rows) >> 1;
    const me_u32 *levels = me_pool + p.levels + 2 * CHANNELS * (from * p.groups_most + group);
    const int place = y * p.groups_most + group, step = 2 * CHANNELS * p.groups_most;
    me_u32 *saved = me_pool + p.saved + 4 * CHANNELS * place;
    me_u32 sums[4 * CHANNELS];
    ME_UNROLL
    for (int i = 0; i < 4 * CHANNELS; i++) sums[i] = fresh ? 0 : saved[i];
    int tap = p.row + 2 * from - first; /* of the pair's upper row; -1 where only the lower one has a weight */
    me_u64 weights = axis.weight + 2 * ((me_u64)result * (me_u32)taps) + 2 * (me_u64)(long long)tap;
    ME_UNROLL_2
    for (int pair = from; pair < to; pair++) {
        const me_u32 upper = tap >= 0 ? me_read16(weights) : 0, lower = tap + 1 < taps ? me_read16(weights + 2) : 0;
        const me_u32 both = me_couple(upper, lower);
        ME_UNROLL
        for (int c = 0; c < CHANNELS; c++) {
            me_u32 left, right;
            me_read_two(levels + 2 * c, &left, &right);
            sums[4 * c] = me_dot_low(both, left, sums[4 * c]);
            sums[4 * c + 1] = me_dot_high(both, left, sums[4 * c + 1]);
            sums[4 * c + 2] = me_dot_low(both, right, sums[4 * c + 2]);
            sums[4 * c + 3] = me_dot_high(both, right, sums[4 * c + 3]);
        }
        weights += 4;
        levels += step;
        tap += 2;
    }
    if (!whole) {
        ME_UNROLL
        for (int i = 0; i < 4 * CHANNELS; i++) saved[i] = sums[i];
        return;
    }
    me_u32 *between = me_pool + 2 * CHANNELS * place;
    me_u32 words[2 * CHANNELS];
    ME_UNROLL
    for (int i = 0; i < 2 * CHANNELS; i++) {
        const int a = 2 * i, b = 2 * i + 1; /* of [column][channel] */
        words[i] = me_couple((me_u32)me_between((me_i32)sums[a % CHANNELS * 4 + a / CHANNELS]),
                             (me_u32)me_between((me_i32)sums[b % CHANNELS * 4 + b / CHANNELS]));
    }
    ME_UNROLL
    for (int c = 0; c < CHANNELS; c++) me_write_two(between + 2 * c, words[2 * c], words[2 * c + 1]);
}

/* One result: adds what the part's columns bring. axis: across; result: counted from the picture's first. */
template <int CHANNELS>
ME_FN void me_sum_across(const me_part &p, const me_axis &axis, int result, int y, me_i32 sums[CHANNELS]) {
    const int first = (int)me_read32(axis.first + 4 * (me_u64)result);
    const int from = me_most(first, p.col), to = me_least(first + axis.taps, p.col + 4 * p.groups);
    me_u64 weights = axis.weight + 2 * ((me_u64)result * (me_u32)axis.taps + (me_u32)(from - first));
    const me_u16 *between = (const me_u16 *)me_pool + CHANNELS * (4 * y * p.groups_most + from - p.col);
    me_i32 own[CHANNELS];
    ME_UNROLL
    for (int c = 0; c < CHANNELS; c++) own[c] = 0;
    ME_UNROLL_4
    for (int left = to - from; left > 0; left--) {
        const me_i32 weight = (me_i32)me_read16(weights);
        ME_UNROLL
        for (int c = 0; c < CHANNELS; c++) own[c] += weight * (me_i32)between[c];
        weights += 2;
        between += CHANNELS;
    }
    ME_UNROLL
    for (int c = 0; c < CHANNELS; c++) sums[c] += own[c];
}

ME_FN void me_store(const me_job &job, int channel, int level, int place) {
    const me_u64 plane = (me_u64)job.x.count * (me_u32)job.y.count;
    const me_u64 value = job.table + (me_u64)(channel * 256 + level) * (me_u32)job.element;
    const me_u64 target = job.target + ((me_u64)channel * plane + (me_u32)place) * (me_u32)job.element;
    if (job.element == 4) me_write32(target, me_read32(value));
    else if (job.element == 2) me_write16(target, me_read16(value));
    else me_write8(target, me_read8(value));
}

/* Divides groups of four columns into equal parts of at most `most`, and the pool. */
template <int CHANNELS>
ME_FN void me_divide(me_part &p, int groups, int most, bool saves) {
    const int parts = (groups + most - 1) / most;
    p.groups_most = (groups + parts - 1) / parts;
    p.pairs_at_once = ME_THREADS / p.groups_most;
    const int sums = CHANNELS * ME_TILE_H * p.groups_most;
    p.saved = 2 * sums;
    p.levels = p.saved + (saves ? 4 * sums : 0);
    p.rows_most = (ME_POOL_WORDS - p.levels) / (CHANNELS * p.groups_most) & ~1;
}

/* One tile, results from (left, top) on. CHANNELS: of the levels; the tensor may repeat one level in three planes. */
template <int CHANNELS>
ME_FN void me_tile(const me_job &job, int left, int top) {
    const int across = me_least(ME_TILE_W, job.x.count - left), down = me_least(ME_TILE_H, job.y.count - top);
    const int col_begin = (int)me_read32(job.x.first + 4 * (me_u64)left) & ~3;
    const int col_end = (int)me_read32(job.x.first + 4 * (me_u64)(left + across - 1)) + job.x.taps;
    const int row_begin = me_first_of_two(job, (int)me_read32(job.y.first + 4 * (me_u64)top));
    const int row_end = (int)me_read32(job.y.first + 4 * (me_u64)(top + down - 1)) + job.y.taps;
    const int groups = (col_end - col_begin + 3) >> 2;
    me_part p;
    me_divide<CHANNELS>(p, groups, ME_GROUPS, false);
    if (row_end - row_begin > p.rows_most) me_divide<CHANNELS>(p, groups, ME_GROUPS_SAVED, true);
    const bool turned = job.rotation == 90 || job.rotation == 270;

    ME_OWN(me_own<CHANNELS>, own);
    ME_EACH_THREAD(t) {
        ME_MY(own, t).row = t / p.groups_most;
        ME_MY(own, t).group = t % p.groups_most;
        for (int c = 0; c < CHANNELS; c++) ME_MY(own, t).sums[c] = 0;
    }
    for (int begin = 0; begin < groups; begin += p.groups_most) {
        p.col = col_begin + 4 * begin;
        p.groups = me_least(p.groups_most, groups - begin);
        for (p.row = row_begin; p.row < row_end; p.row += p.rows_most) {
            p.rows = me_least(p.rows_most, (row_end - p.row + 1) & ~1);
            ME_EACH_THREAD(t) {
                const int row = ME_MY(own, t).row, group = ME_MY(own, t).group;
                if (row < p.pairs_at_once && group < p.groups) {
                    me_column c;
                    c.col = p.col + 4 * group;
                    c.row = p.row + 2 * row;
                    c.step = p.pairs_at_once;
                    c.pairs = ((p.rows >> 1) - row + c.step - 1) / c.step;
                    c.stride = 2 * CHANNELS * c.step * p.groups_most;
                    c.to = p.levels + 2 * CHANNELS * (row * p.groups_most + group);
                    c.gray = CHANNELS == 1;
                    me_convert(job, c);
                }
            }
            ME_SYNC();
            const bool fresh = p.row == row_begin, whole = p.row + p.rows >= row_end;
            ME_EACH_THREAD(t) {
                const int row = ME_MY(own, t).row, group = ME_MY(own, t).group;
                if (row < p.pairs_at_once && group < p.groups) {
                    ME_ROLLED
                    for (int y = row; y < down; y += p.pairs_at_once)
                        me_down<CHANNELS>(p, job.y, top + y, y, group, fresh, whole);
                }
            }
            ME_SYNC();
        }
        /* What follows is done by all threads before the next part's first ME_SYNC, and `between` is written after it. */
        ME_EACH_THREAD(t) {
            const int x = turned ? t / ME_TILE_H : t % ME_TILE_W, y = turned ? t % ME_TILE_H : t / ME_TILE_W;
            if (x < across && y < down) me_sum_across<CHANNELS>(p, job.x, left + x, y, ME_MY(own, t).sums);
        }
    }
    ME_EACH_THREAD(t) {
        const int x = turned ? t / ME_TILE_H : t % ME_TILE_W, y = turned ? t % ME_TILE_H : t / ME_TILE_W;
        if (x < across && y < down) {
            const int place = me_turned(left + x, top + y, job.x.count, job.y.count, job.rotation);
            const int planes = job.order == ME_ORDER_GRAY ? 1 : 3;
            ME_UNROLL
            for (int i = 0; i < 3; i++) {
                const int channel = job.order == ME_ORDER_BGR ? 2 - i : i;
                if (i < planes) me_store(job, channel, me_level(ME_MY(own, t).sums[i < CHANNELS ? i : 0]), place);
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(ME_THREADS, ME_BLOCKS) memedge_preprocess(me_u64 jobs) {
    /* In shared memory, so that no register holds what another phase needs. */
    ME_EACH_THREAD(t) {
        if (t < (int)(sizeof(me_job) / 4)) me_parameters[t] = me_read32(jobs + blockIdx.z * sizeof(me_job) + 4 * t);
    }
    ME_SYNC();
    const me_job &job = *(const me_job *)me_parameters;
    if (job.width == 0) return;
    const int tiles_x = (job.x.count + ME_TILE_W - 1) / ME_TILE_W;
    const int left = (int)blockIdx.x % tiles_x * ME_TILE_W, top = (int)blockIdx.x / tiles_x * ME_TILE_H;
    if (top >= job.y.count) return;
    if (job.order == ME_ORDER_GRAY || job.format == ME_GRAY8) me_tile<1>(job, left, top);
    else me_tile<3>(job, left, top);
}
