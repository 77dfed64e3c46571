/* Row kernels of the CPU fast path: what one instruction set does to one row. The loop nest around them is host.cpp; the
 * arithmetic is that of pixels.h. host_loops.h states every kernel in plain C++; host_avx2.h, host_avx512.h and
 * host_color.h state those that take the time again.
 *
 * Rows of the caller (a frame's planes, the target) are read and written exactly; rows of scratch memory may be read and
 * written up to ME_SLACK elements past their end.
 */
#ifndef MEMEDGE_HOST_H
#define MEMEDGE_HOST_H

#include <stddef.h>
#include <string.h>

#include "pixels.h"

enum {
    ME_SLACK = 128,      /* elements that scratch rows have to spare */
    ME_MOST_ROWS = 64    /* most source rows that `down` takes at once */
};

/* The taps across a row, laid out for the registers that work on them. Taps go in units of 8 or 16; a register holds units
 * of `lanes` results, and 4 registers (units of 8) or 8 (units of 16) make a block:
 * weight[block][unit][register][lane][size]. Positions count from the row's first sample, in the same order
 * (me_result_of); results and taps that do not exist have weight 0. */
struct me_taps {
    const me_i32 *first; /* [block][register][lane] */
    const me_i16 *weight;
    me_i32 blocks, units, size, lanes;
};

/* Which result of a block a register's lane holds: four registers are summed up to one, whose lanes of 128 bits have four
 * results each. */
static inline me_i32 me_result_of(me_i32 reg, me_i32 lane, me_i32 lanes) {
    return reg / 4 * 4 * lanes + 4 * lane + reg % 4;
}

/* A gain of me_color in two 16-bit factors: 65536 * high + low. */
struct me_factors {
    me_i16 high, low;
};

struct me_gains {
    me_color color;
    me_factors luma, red_cr, green_cb, green_cr, blue_cb;
};

/* Where chroma lies: on every even column, between each even and odd one, or on every column. */
enum me_siting { ME_ON_EVEN, ME_BETWEEN, ME_ON_ALL };

/* One row to R, G, B. cb and cr: fourths of a level around zero; `odd` is that of the odd columns where chroma lies on all,
 * otherwise unused, and the samples before the first and behind the last are there. */
struct me_color_row {
    const me_u8 *luma;
    const me_i16 *cb, *cr, *cb_odd, *cr_odd;
    me_siting siting;
    me_i32 count;
    const me_gains *gains;
    me_u8 *out[3];
};

struct me_rows {
    const char *name;
    me_i32 bytes; /* of the registers of `across` */

    /* between[i] = me_between(sum of weight[t] * row[t][i]); at most ME_MOST_ROWS taps, weights that add up to 1. */
    void (*down)(const me_u8 *const *row, const me_i16 *weight, me_i32 taps, me_i32 count, me_i16 *between);
    /* sum[i] += weight * row[i], and the last step of it, for windows of more rows. */
    void (*add)(const me_u8 *row, me_i32 weight, me_i32 count, me_i32 *sum);
    void (*finish)(const me_i32 *sum, me_i32 count, me_i16 *between);
    /* level[i] = me_level(sum over the taps of i). */
    void (*across)(const me_i16 *between, const me_taps *taps, me_u8 *level);
    /* The same where each result is its sample. */
    void (*narrow)(const me_i16 *between, me_i32 count, me_u8 *level);

    void (*color)(const me_color_row *row);
    /* Luma of a grey picture to levels. */
    void (*stretch)(const me_u8 *luma, const me_gains *gains, me_i32 count, me_u8 *level);
    void (*gray)(const me_u8 *const rgb[3], me_i32 count, me_u8 *level);
    /* out[i] = (4 - quarter) * upper[i] + quarter * lower[i] - 512; `blend2` of two interleaved rows. */
    void (*blend)(const me_u8 *upper, const me_u8 *lower, me_i32 quarter, me_i32 count, me_i16 *out);
    void (*blend2)(const me_u8 *upper, const me_u8 *lower, me_i32 quarter, me_i32 count, me_i16 *first, me_i16 *second);

    /* Samples apart: of three interleaved rows between the passes, of three and of two rows of bytes; and together. */
    void (*apart)(const me_i16 *triples, me_i32 count, me_i16 *const out[3]);
    void (*apart3)(const me_u8 *triples, me_i32 count, me_u8 *const out[3]);
    void (*apart2)(const me_u8 *pairs, me_i32 count, me_u8 *first, me_u8 *second);
    void (*together)(const me_u8 *const row[3], me_i32 count, me_u8 *triples);
};

#endif
