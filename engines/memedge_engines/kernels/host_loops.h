/* Every row kernel in plain C++, included once for each instruction set, inside a namespace of its own: compilers turn
 * these loops into that set's vector instructions. In the namespace `plain` they are the portable path, which also says
 * what the hand-written kernels have to give.
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
    const me_i32 size = taps->size, step = size / 2 * taps->lanes;
    const me_i16 *weight = taps->weight;
    const me_i32 *first = taps->first;
    for (me_i32 block = 0; block < taps->blocks; block++, level += step, first += step) {
        me_i32 sum[16] = {0};
        for (me_i32 unit = 0; unit < taps->units; unit++) {
            for (me_i32 k = 0; k < step; k++, weight += size) {
                const me_i16 *sample = between + first[k] + size * unit;
                me_i32 part = 0;
                for (me_i32 i = 0; i < 8; i++) part += weight[i] * sample[i];
                if (size == 16) {
                    for (me_i32 i = 8; i < 16; i++) part += weight[i] * sample[i];
                }
                sum[k] += part;
            }
        }
        for (me_i32 k = 0; k < step; k++) level[me_result_of(k / taps->lanes, k % taps->lanes, taps->lanes)] = me_level(sum[k]);
    }
}

static void narrow(const me_i16 *between, me_i32 count, me_u8 *level) {
    /* The weight of 1 cancels out of me_level. */
    for (me_i32 i = 0; i < count; i++) {
        level[i] = (me_u8)((between[i] + (1 << (ME_BETWEEN_BITS - 1))) >> ME_BETWEEN_BITS);
    }
}

/* A gain times a 16-bit sample, as me_levels has it. */
static inline me_i32 scaled(me_factors gain, me_i16 sample) { return gain.high * sample + (gain.low * sample >> 16); }

static void stretch(const me_u8 *luma, const me_gains *gains, me_i32 count, me_u8 *level) {
    const me_gains k = *gains;
    for (me_i32 i = 0; i < count; i++) {
        level[i] = me_byte((scaled(k.luma, (me_i16)(luma[i] << 7)) + k.color.base) >> ME_SUM_BITS);
    }
}

/* Chroma at column i, filling 16 bits, from fourths of a level. */
static inline me_i16 chroma_at(const me_color_row *row, const me_i16 *samples, const me_i16 *odd, me_i32 i) {
    const me_i32 here = samples[i / 2];
    if (row->siting == ME_ON_ALL) return (me_i16)((i & 1 ? odd[i / 2] : here) * 64);
    if (row->siting == ME_ON_EVEN) return (me_i16)((i & 1 ? here + samples[i / 2 + 1] : 2 * here) * 32);
    return (me_i16)((3 * here + samples[i & 1 ? i / 2 + 1 : i / 2 - 1]) * 16);
}

[[maybe_unused]] static void color_loop(const me_color_row *row) {
    enum { BLOCK = 256 };
    const me_gains k = *row->gains;
    me_i16 cb[BLOCK], cr[BLOCK];
    for (me_i32 x = 0; x < row->count; x += BLOCK) {
        const me_i32 size = row->count - x < BLOCK ? row->count - x : BLOCK;
        for (me_i32 i = 0; i < size; i++) {
            cb[i] = chroma_at(row, row->cb, row->cb_odd, x + i);
            cr[i] = chroma_at(row, row->cr, row->cr_odd, x + i);
        }
        me_u8 *__restrict r = row->out[0] + x, *__restrict g = row->out[1] + x, *__restrict b = row->out[2] + x;
        const me_u8 *luma = row->luma + x;
        for (me_i32 i = 0; i < size; i++) {
            const me_i32 y = scaled(k.luma, (me_i16)(luma[i] << 7)) + k.color.base;
            r[i] = me_byte((y + scaled(k.red_cr, cr[i])) >> ME_SUM_BITS);
            g[i] = me_byte((y + scaled(k.green_cb, cb[i]) + scaled(k.green_cr, cr[i])) >> ME_SUM_BITS);
            b[i] = me_byte((y + scaled(k.blue_cb, cb[i])) >> ME_SUM_BITS);
        }
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
