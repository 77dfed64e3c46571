/* Every row kernel in plain C++, included once for each instruction set, inside a namespace of its own: compilers turn
 * these loops into that set's vector instructions. In the namespace `plain` they are the portable path, which also says
 * what the hand-written kernels of host_vector.h have to give.
 */

static void widen(const me_u8 *row, me_i32 count, me_i16 *between) {
    for (me_i32 i = 0; i < count; i++) between[i] = (me_i16)(row[i] << ME_BETWEEN_BITS);
}

[[maybe_unused]] static void down_loop(const me_u8 *const *row, const me_i16 *weight, me_i32 taps, me_i32 count, me_i16 *between) {
    enum { BLOCK = 128 };
    if (taps == 1) {
        widen(row[0], count, between);
        return;
    }
    for (me_i32 x = 0; x < count; x += BLOCK) {
        me_i32 sum[BLOCK] = {0};
        const me_i32 size = count - x < BLOCK ? count - x : BLOCK;
        for (me_i32 t = 0; t < taps; t += 2) {
            /* An odd last row is taken twice, the second time with weight 0. */
            const me_u8 *a = row[t] + x, *b = row[t + 1 < taps ? t + 1 : t] + x;
            const me_i16 wa = weight[t], wb = (me_i16)(t + 1 < taps ? weight[t + 1] : 0);
            for (me_i32 i = 0; i < size; i++) sum[i] += (me_i16)a[i] * wa + (me_i16)b[i] * wb;
        }
        for (me_i32 i = 0; i < size; i++) between[x + i] = (me_i16)me_between(sum[i]);
    }
}

static void add(const me_u8 *row, me_i32 weight, me_i32 count, me_i32 *sum) {
    for (me_i32 i = 0; i < count; i++) sum[i] += weight * row[i];
}

static void finish(const me_i32 *sum, me_i32 count, me_i16 *between) {
    for (me_i32 i = 0; i < count; i++) between[i] = (me_i16)me_between(sum[i]);
}

[[maybe_unused]] static void across_loop(const me_i16 *between, const me_taps *taps, me_u8 *level) {
    const me_i16 *weight = taps->weight;
    for (me_i32 block = 0; block < taps->blocks; block++, weight += taps->units * 4 * ME_UNIT) {
        for (me_i32 k = 0; k < 4; k++) {
            me_i32 sum[ME_UNIT] = {0};
            for (me_i32 unit = 0; unit < taps->units; unit++) {
                const me_i16 *sample = between + taps->first[4 * block + k] + ME_UNIT * unit;
                const me_i16 *part = weight + (4 * unit + k) * ME_UNIT;
                for (me_i32 i = 0; i < ME_UNIT; i++) sum[i] += part[i] * sample[i];
            }
            me_i32 total = 0;
            for (me_i32 i = 0; i < ME_UNIT; i++) total += sum[i];
            level[4 * block + k] = me_level(total);
        }
    }
}

static void narrow(const me_i16 *between, me_i32 count, me_u8 *level) {
    /* The weight of 1 cancels out of me_level. */
    for (me_i32 i = 0; i < count; i++) {
        level[i] = (me_u8)((between[i] + (1 << (ME_BETWEEN_BITS - 1))) >> ME_BETWEEN_BITS);
    }
}

[[maybe_unused]] static void color_loop(const me_color_row *row) {
    const me_i32 even = row->even, odd = row->odd, zero = 128 * ME_CHROMA_ONE, pairs = row->count / 2;
    const me_color color = row->gains->color;
    const me_u8 *luma = row->luma;
    me_u8 *r = row->out[0], *g = row->out[1], *b = row->out[2];
    for (me_i32 i = 0; i < pairs; i++) {
        const me_i32 cb = even * row->cb[0][i] + (4 - even) * row->cb[1][i] + zero;
        const me_i32 cr = even * row->cr[0][i] + (4 - even) * row->cr[1][i] + zero;
        me_rgb(&color, luma[2 * i], cb, cr, r + 2 * i, g + 2 * i, b + 2 * i);
    }
    for (me_i32 i = 0; i < pairs; i++) {
        const me_i32 cb = odd * row->cb[2][i] + (4 - odd) * row->cb[3][i] + zero;
        const me_i32 cr = odd * row->cr[2][i] + (4 - odd) * row->cr[3][i] + zero;
        me_rgb(&color, luma[2 * i + 1], cb, cr, r + 2 * i + 1, g + 2 * i + 1, b + 2 * i + 1);
    }
    if (row->count & 1) {
        const me_i32 cb = even * row->cb[0][pairs] + (4 - even) * row->cb[1][pairs] + zero;
        const me_i32 cr = even * row->cr[0][pairs] + (4 - even) * row->cr[1][pairs] + zero;
        me_rgb(&color, luma[2 * pairs], cb, cr, r + 2 * pairs, g + 2 * pairs, b + 2 * pairs);
    }
}

static void gray(const me_u8 *const rgb[3], me_i32 count, me_u8 *level) {
    const me_u8 *r = rgb[0], *g = rgb[1], *b = rgb[2];
    for (me_i32 i = 0; i < count; i++) level[i] = me_gray(r[i], g[i], b[i]);
}

static void blend(const me_u8 *upper, const me_u8 *lower, me_i32 quarter, me_i32 count, me_i16 *out) {
    const me_i16 a = (me_i16)(4 - quarter), b = (me_i16)quarter;
    for (me_i32 i = 0; i < count; i++) out[i] = (me_i16)(a * upper[i] + b * lower[i] - 512);
}

static void blend2(
    const me_u8 *upper, const me_u8 *lower, me_i32 quarter, me_i32 count, me_i16 *first, me_i16 *second) {
    const me_i16 a = (me_i16)(4 - quarter), b = (me_i16)quarter;
    for (me_i32 i = 0; i < count; i++) {
        first[i] = (me_i16)(a * upper[2 * i] + b * lower[2 * i] - 512);
        second[i] = (me_i16)(a * upper[2 * i + 1] + b * lower[2 * i + 1] - 512);
    }
}

[[maybe_unused]] static void apart_loop(const me_i16 *triples, me_i32 count, me_i16 *const out[3]) {
    me_i16 *a = out[0], *b = out[1], *c = out[2];
    for (me_i32 i = 0; i < count; i++) {
        a[i] = triples[3 * i];
        b[i] = triples[3 * i + 1];
        c[i] = triples[3 * i + 2];
    }
}

static void apart3(const me_u8 *triples, me_i32 count, me_u8 *const out[3]) {
    me_u8 *a = out[0], *b = out[1], *c = out[2];
    for (me_i32 i = 0; i < count; i++) {
        a[i] = triples[3 * i];
        b[i] = triples[3 * i + 1];
        c[i] = triples[3 * i + 2];
    }
}

static void apart2(const me_u8 *pairs, me_i32 count, me_u8 *first, me_u8 *second) {
    for (me_i32 i = 0; i < count; i++) {
        first[i] = pairs[2 * i];
        second[i] = pairs[2 * i + 1];
    }
}

static void together_loop(const me_u8 *const row[3], me_i32 count, me_u8 *triples) {
    const me_u8 *a = row[0], *b = row[1], *c = row[2];
    for (me_i32 i = 0; i < count; i++) {
        triples[3 * i] = a[i];
        triples[3 * i + 1] = b[i];
        triples[3 * i + 2] = c[i];
    }
}
