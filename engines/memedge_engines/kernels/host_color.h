/* Colour of a row over vectors of V_BYTES in lanes of 128 bits; included once for each instruction set that defines the
 * operations used here, inside that set's namespace: on `vec` (16-bit elements, or bytes), on `wide` (32-bit sums), and
 * v_dot, which adds to each sum both products of a pair of 16-bit elements with a pair of factors.
 */

struct color_vectors {
    wide base;
    v_factors luma, red_cr, green_cb, green_cr, blue_cb;
    vec luma_low, red_cr_low, green_cb_low, green_cr_low, blue_cb_low;
};

/* R, G, B of V_BYTES / 2 pixels from luma and from chroma around zero, which fills 16 bits, as 16-bit numbers that are not
 * clamped yet. Of me_levels' products the part of a gain's lower factor fits 16 bits; it is paired with the sample itself,
 * and one multiply-add by (1, upper factor) adds both to the sum. */
static inline void color_half(const color_vectors &k, vec luma, vec cb, vec cr, vec rgb[3]) {
    luma = v_left16<7>(luma);
    const vec luma_low = v_upper16(luma, k.luma_low), red_low = v_upper16(cr, k.red_cr_low);
    const vec green_low = v_add16(v_upper16(cb, k.green_cb_low), v_upper16(cr, k.green_cr_low));
    const vec blue_low = v_upper16(cb, k.blue_cb_low);
    wide sum[3][2];
    for (int part = 0; part < 2; part++) {
        const v_couples y = part ? v_high16(luma_low, luma) : v_low16(luma_low, luma);
        const v_couples red = part ? v_high16(red_low, cr) : v_low16(red_low, cr);
        const v_couples green = part ? v_high16(green_low, cb) : v_low16(green_low, cb);
        const v_couples blue = part ? v_high16(blue_low, cb) : v_low16(blue_low, cb);
        const wide shared = v_dot(k.base, y, k.luma);
        sum[0][part] = v_right32<ME_SUM_BITS>(v_dot(shared, red, k.red_cr));
        sum[1][part] = v_right32<ME_SUM_BITS>(v_dot(v_dot(shared, green, k.green_cb), red, k.green_cr));
        sum[2][part] = v_right32<ME_SUM_BITS>(v_dot(shared, blue, k.blue_cb));
    }
    for (int c = 0; c < 3; c++) rgb[c] = v_pack32(sum[c][0], sum[c][1]);
}

/* Chroma of the even and of the odd columns from fourths of a level at i, filling 16 bits. */
template <int SITING> static inline void chroma(const me_i16 *samples, const me_i16 *odd, vec *at_even, vec *at_odd) {
    const vec here = v_load(samples);
    if (SITING == ME_ON_EVEN) {
        *at_even = v_left16<6>(here);
        *at_odd = v_left16<5>(v_add16(here, v_load(samples + 1)));
    } else if (SITING == ME_BETWEEN) {
        const vec three = v_add16(v_add16(here, here), here);
        *at_even = v_left16<4>(v_add16(three, v_load(samples - 1)));
        *at_odd = v_left16<4>(v_add16(three, v_load(samples + 1)));
    } else {
        *at_even = v_left16<6>(here);
        *at_odd = v_left16<6>(v_load(odd));
    }
}

template <int SITING> static inline void color_row(const me_color_row *row) {
    const me_gains *gains = row->gains;
    const color_vectors k = {
        v_set32(gains->color.base),
        v_pair(1, gains->luma.high),     v_pair(1, gains->red_cr.high),  v_pair(1, gains->green_cb.high),
        v_pair(0, gains->green_cr.high), v_pair(1, gains->blue_cb.high), v_set16(gains->luma.low),
        v_set16(gains->red_cr.low),      v_set16(gains->green_cb.low),   v_set16(gains->green_cr.low),
        v_set16(gains->blue_cb.low),
    };
    me_u8 rest[V_BYTES] = {0};
    for (me_i32 x = 0; x < row->count; x += V_BYTES) {
        const me_u8 *source = row->luma + x;
        if (row->count - x < V_BYTES) {
            memcpy(rest, source, (size_t)(row->count - x));
            source = rest;
        }
        const vec luma = v_load(source);
        const me_i32 i = x / 2;
        vec cb[2], cr[2], even[3], odd[3];
        chroma<SITING>(row->cb + i, row->cb_odd + i, cb, cb + 1);
        chroma<SITING>(row->cr + i, row->cr_odd + i, cr, cr + 1);
        color_half(k, v_and(luma, v_set16(255)), cb[0], cr[0], even);
        color_half(k, v_right16<8>(luma), cb[1], cr[1], odd);
        for (int c = 0; c < 3; c++) v_store(row->out[c] + x, v_weave(even[c], odd[c]));
    }
}

static void color(const me_color_row *row) {
    if (row->siting == ME_ON_EVEN) {
        color_row<ME_ON_EVEN>(row);
    } else if (row->siting == ME_BETWEEN) {
        color_row<ME_BETWEEN>(row);
    } else {
        color_row<ME_ON_ALL>(row);
    }
}
