/* The kernels that take the time, over vectors of V_BYTES in lanes of 128 bits; included once for each instruction set
 * that defines `vec` and the operations used here, inside that set's namespace and after host_loops.h. "Lower" and "upper"
 * halves are those of each lane.
 */

/* A pair of 16-bit factors in every 32-bit element. */
static inline vec pair(me_i32 low, me_i32 high) {
    return v_set32((me_i32)((me_u32)(low & 0xffff) | (me_u32)high << 16));
}

/* Two rows at a time: their bytes side by side as 16-bit numbers, one multiply-add for both. */
static inline void two_rows(const me_u8 *a, const me_u8 *b, vec weights, vec sum[4]) {
    const vec zero = v_set32(0), upper = v_load(a), lower = v_load(b);
    const vec first = v_low8(upper, lower), second = v_high8(upper, lower);
    sum[0] = v_dot(sum[0], v_low8(first, zero), weights);
    sum[1] = v_dot(sum[1], v_high8(first, zero), weights);
    sum[2] = v_dot(sum[2], v_low8(second, zero), weights);
    sum[3] = v_dot(sum[3], v_high8(second, zero), weights);
}

#ifndef V_OWN_DOWN
static void down(const me_u8 *const *row, const me_i16 *weight, me_i32 taps, me_i32 count, me_i16 *between) {
    if (taps == 1 || count < V_BYTES) {
        down_loop(row, weight, taps, count, between);
        return;
    }
    vec weights[ME_MOST_ROWS / 2];
    for (me_i32 t = 0; t < taps; t += 2) weights[t / 2] = pair(weight[t], t + 1 < taps ? weight[t + 1] : 0);
    /* The last step ends with the row and does part of the one before it again. */
    for (me_i32 next = 0; next < count; next += V_BYTES) {
        const me_i32 x = next < count - V_BYTES ? next : count - V_BYTES;
        vec sum[4];
        for (int k = 0; k < 4; k++) sum[k] = v_set32(1 << (ME_WEIGHT_BITS - ME_BETWEEN_BITS - 1));
        me_i32 t = 0;
        for (; t + 1 < taps; t += 2) two_rows(row[t] + x, row[t + 1] + x, weights[t / 2], sum);
        if (t < taps) two_rows(row[t] + x, row[t] + x, weights[t / 2], sum);
        for (int k = 0; k < 4; k++) sum[k] = v_right32<ME_WEIGHT_BITS - ME_BETWEEN_BITS>(sum[k]);
        v_store_halves(between + x, v_pack32(sum[0], sum[1]), v_pack32(sum[2], sum[3]));
    }
}
#endif

static void across(const me_i16 *between, const me_taps *taps, me_u8 *level) {
    const vec half = v_set32(1 << (ME_WEIGHT_BITS + ME_BETWEEN_BITS - 1));
    const me_i16 *weight = taps->weight;
    const me_i32 *first = taps->first;
    for (me_i32 block = 0; block < taps->blocks; block++, first += 4 * V_LANES, level += 4 * V_LANES) {
        vec sum[4];
        for (int k = 0; k < 4; k++) sum[k] = v_set32(0);
        for (me_i32 unit = 0; unit < taps->units; unit++) {
            for (int k = 0; k < 4; k++, weight += ME_UNIT * V_LANES) {
                sum[k] = v_dot(sum[k], v_gather(between + ME_UNIT * unit, first + k), v_load(weight));
            }
        }
        v_store_levels(level, v_right32<ME_WEIGHT_BITS + ME_BETWEEN_BITS>(v_add32(v_sums(sum), half)));
    }
}

struct color_vectors {
    vec base, luma, red_cr, green_cb, green_cr, blue_cb;
};

/* R, G, B of V_BYTES / 2 pixels from 16-bit luma and chroma, as 16-bit numbers that are not clamped yet. Every sum of
 * me_rgb is made of products of 16-bit numbers: those of a number and of the same number shifted left. */
static inline void color_half(const color_vectors &k, vec luma, vec cb, vec cr, vec rgb[3]) {
    const vec luma_high = v_left16<7>(luma), cb_high = v_left16<4>(cb), cr_high = v_left16<4>(cr);
    vec sum[3][2];
    for (int part = 0; part < 2; part++) {
        const vec y = part ? v_high16(luma, luma_high) : v_low16(luma, luma_high);
        const vec blue = part ? v_high16(cb, cb_high) : v_low16(cb, cb_high);
        const vec red = part ? v_high16(cr, cr_high) : v_low16(cr, cr_high);
        const vec shared = v_dot(k.base, y, k.luma);
        sum[0][part] = v_right32<ME_GAIN_BITS + 4>(v_dot(shared, red, k.red_cr));
        sum[1][part] = v_right32<ME_GAIN_BITS + 4>(v_dot(v_dot(shared, blue, k.green_cb), red, k.green_cr));
        sum[2][part] = v_right32<ME_GAIN_BITS + 4>(v_dot(shared, blue, k.blue_cb));
    }
    for (int c = 0; c < 3; c++) rgb[c] = v_pack32(sum[c][0], sum[c][1]);
}

static inline vec chroma(const me_i16 *near, const me_i16 *far, vec near_part, vec far_part) {
    return v_add16(v_times16(v_load(near), near_part), v_times16(v_load(far), far_part));
}

static void color(const me_color_row *row) {
    const me_gains *gains = row->gains;
    const color_vectors k = {v_set32(gains->base),          v_set32((me_i32)gains->luma),
                             v_set32((me_i32)gains->red_cr),   v_set32((me_i32)gains->green_cb),
                             v_set32((me_i32)gains->green_cr), v_set32((me_i32)gains->blue_cb)};
    const vec even = v_set16(row->even), even_far = v_set16(4 - row->even);
    const vec odd = v_set16(row->odd), odd_far = v_set16(4 - row->odd);
    me_u8 rest[V_BYTES] = {0};
    for (me_i32 x = 0; x < row->count; x += V_BYTES) {
        const me_u8 *source = row->luma + x;
        if (row->count - x < V_BYTES) {
            memcpy(rest, source, (size_t)(row->count - x));
            source = rest;
        }
        const vec luma = v_load(source);
        const me_i32 i = x / 2;
        vec left[3], right[3];
        color_half(k, v_and(luma, v_set16(255)), chroma(row->cb[0] + i, row->cb[1] + i, even, even_far),
                   chroma(row->cr[0] + i, row->cr[1] + i, even, even_far), left);
        color_half(k, v_right16<8>(luma), chroma(row->cb[2] + i, row->cb[3] + i, odd, odd_far),
                   chroma(row->cr[2] + i, row->cr[3] + i, odd, odd_far), right);
        for (int c = 0; c < 3; c++) v_store(row->out[c] + x, v_weave(left[c], right[c]));
    }
}
