/* Eight pixels, four columns of two rows, in any pixel format: two words a channel (R, G, B or grey), in which the rows
 * alternate: column 0 of the upper row in the lowest byte, of the lower row above it, then column 1; columns 2 and 3 in the
 * second word. `out` has three channels, of GRAY8 one. Columns beyond the right edge come out as something, never from outside the row: no weight reaches them. Rows
 * outside the picture come out as the nearest one.
 * Needs device.h or emulate.h before it.
 */
#ifndef MEMEDGE_SOURCES_H
#define MEMEDGE_SOURCES_H

/* What of a job decides its pixels. The two rows lie between chroma rows A and B, of which they take `upper` and `lower`
 * quarters of A, the rest of B. */
struct me_source {
    me_u64 plane[3];
    me_i32 pitch[3];
    me_i32 format, width, height, chroma_w, chroma_h;
    me_i32 half_x, half_y;
    bool halved; /* one chroma row for two luma rows */
    me_u32 upper, lower;
    bool words[3]; /* rows of the plane begin at multiples of four bytes */
    me_color color;
};

ME_FN me_source me_source_of(const me_job &job) {
    me_source s;
    for (int i = 0; i < 3; i++) {
        s.plane[i] = job.plane[i];
        s.pitch[i] = job.pitch[i];
        s.words[i] = (((me_u32)job.plane[i] | (me_u32)job.pitch[i]) & 3) == 0;
    }
    s.format = job.format;
    s.width = job.width;
    s.height = job.height;
    s.chroma_w = job.sub_x == 2 ? (job.width + 1) >> 1 : job.width;
    s.chroma_h = job.sub_y == 2 ? (job.height + 1) >> 1 : job.height;
    s.half_x = job.half_x;
    s.halved = job.sub_y == 2;
    s.half_y = s.halved ? job.half_y : 0;
    s.upper = (me_u32)(4 - s.half_y);
    s.lower = s.halved ? (me_u32)(2 - s.half_y) : 0;
    s.color = job.color;
    return s;
}

ME_FN me_i32 me_least(me_i32 a, me_i32 b) { return a < b ? a : b; }
ME_FN me_i32 me_most(me_i32 a, me_i32 b) { return a > b ? a : b; }

/* The row at or above `row` that two rows at once begin with: me_chroma_tap gives both the same chroma rows. May be -1. */
ME_FN me_i32 me_first_of_two(const me_job &job, me_i32 row) {
    const me_i32 half = job.sub_y == 2 ? job.half_y : 0;
    return ((row + half) & ~1) - half;
}

ME_FN me_u64 me_row(const me_source &s, int plane, int row) {
    return s.plane[plane] + (me_u64)(me_u32)row * (me_u32)s.pitch[plane];
}

/* Bytes at..at+3 of a row of `end` bytes; the last byte stands in for those beyond. */
ME_CALLED me_u32 me_bytes(me_u64 row, int at, int end) {
    me_u32 word = 0;
    for (int i = 0; i < 4; i++) word |= me_read8(row + (me_u32)me_least(at + i, end - 1)) << (8 * i);
    return word;
}

ME_FN me_u32 me_four(me_u64 row, int at, int end, bool words) {
    return words && at + 4 <= end ? me_read32(row + (me_u32)at) : me_bytes(row, at, end);
}

/* Two chroma samples side by side in sixteen bits each: cb below, cr above. */
ME_FN me_u32 me_couple(me_u32 cb, me_u32 cr) { return cb | cr << 16; }

/* The chroma samples that pixels col..col+3 (col a multiple of four) lie between, of one chroma row. Subsampled across:
 * those before, at, at and behind the two pairs of pixels; else one a pixel. */
template <int FORMAT>
ME_FN void me_chroma_row(const me_source &s, int row, int col, me_u32 out[4]) {
    if (FORMAT == ME_YUV444P) {
        const me_u32 cb = me_four(me_row(s, 1, row), col, s.chroma_w, s.words[1]);
        const me_u32 cr = me_four(me_row(s, 2, row), col, s.chroma_w, s.words[2]);
        ME_UNROLL
        for (int i = 0; i < 4; i++) out[i] = me_couple(cb >> (8 * i) & 255, cr >> (8 * i) & 255);
        return;
    }
    const int at = col >> 1, last = s.chroma_w - 1;
    const bool inside = at > 0 && at + 2 <= last && s.words[1] && (FORMAT == ME_NV12 || s.words[2]);
    if (FORMAT == ME_NV12) {
        const me_u64 start = me_row(s, 1, row);
        if (inside) {
            const me_u64 here = start + (me_u32)(2 * at);
            const me_u32 middle = me_read32(here);
            out[0] = me_pick(me_read16(here - 2), 0, 0x4140);
            out[1] = me_pick(middle, 0, 0x4140);
            out[2] = me_pick(middle, 0, 0x4342);
            out[3] = me_pick(me_read16(here + 4), 0, 0x4140);
            return;
        }
        ME_UNROLL
        for (int i = 0; i < 4; i++) {
            const me_u64 sample = start + (me_u32)(2 * me_least(me_most(at - 1 + i, 0), last));
            out[i] = me_couple(me_read8(sample), me_read8(sample + 1));
        }
        return;
    }
    const me_u64 cb = me_row(s, 1, row), cr = me_row(s, 2, row);
    if (inside) {
        const me_u64 blue = cb + (me_u32)at, red = cr + (me_u32)at;
        const me_u32 both = me_couple(me_read16(blue), me_read16(red));
        out[0] = me_couple(me_read8(blue - 1), me_read8(red - 1));
        out[1] = me_pick(both, 0, 0x4240);
        out[2] = me_pick(both, 0, 0x4341);
        out[3] = me_couple(me_read8(blue + 2), me_read8(red + 2));
        return;
    }
    ME_UNROLL
    for (int i = 0; i < 4; i++) {
        const me_u32 sample = (me_u32)me_least(me_most(at - 1 + i, 0), last);
        out[i] = me_couple(me_read8(cb + sample), me_read8(cr + sample));
    }
}

/* Chroma of four pixels from the four samples of me_chroma_row, each a sum of four parts: sixteenths, with the parts that
 * me_chroma_tap gives (even pixels: 0 or 3 quarters, odd ones: 2 or 1). Sums stay below 1 << 12, so that the two halves of
 * a word do not meet. */
ME_FN void me_across(me_u32 s[4], int half_x) {
    const me_u32 e = (me_u32)half_x;
    const me_u32 a = e * s[0] + (4 - e) * s[1], b = (2 + e) * s[1] + (2 - e) * s[2];
    const me_u32 c = e * s[1] + (4 - e) * s[2], d = (2 + e) * s[2] + (2 - e) * s[3];
    s[0] = a;
    s[1] = b;
    s[2] = c;
    s[3] = d;
}

/* Words of two rows (first column below) to words in which the rows alternate. */
ME_FN void me_alternate(me_u32 upper, me_u32 lower, me_u32 out[2]) {
    out[0] = me_pick(upper, lower, 0x5140);
    out[1] = me_pick(upper, lower, 0x7362);
}

/* Luma levels and chroma (sixteenths) of two rows to the words of three channels. */
ME_FN void me_words(const me_color &color, const me_u32 y[2], const me_u32 upper[4], const me_u32 lower[4], me_u32 *out) {
    ME_UNROLL
    for (int half = 0; half < 2; half++) {
        me_i32 r[4], g[4], b[4];
        ME_UNROLL
        for (int i = 0; i < 4; i++) {
            const int col = 2 * half + (i >> 1);
            const me_u32 chroma = me_signed(i & 1 ? lower[col] : upper[col]);
            const me_u32 luma = col < 3 ? y[i & 1] << (23 - 8 * col) : y[i & 1] >> 1;
            me_high_levels(&color, (me_i32)(luma & 0x7f800000u), (me_i32)(chroma << 20),
                           (me_i32)(chroma << 4 & 0xfff00000u), &r[i], &g[i], &b[i]);
        }
        out[half] = me_pack(r[0], r[1], r[2], r[3]);
        out[2 + half] = me_pack(g[0], g[1], g[2], g[3]);
        out[4 + half] = me_pack(b[0], b[1], b[2], b[3]);
    }
}

/* Four grey levels of one word a channel. */
ME_CALLED me_u32 me_gray_word(me_u32 r, me_u32 g, me_u32 b) {
    me_u32 word = 0;
    for (int i = 0; i < 32; i += 8)
        word |= (me_u32)me_gray((me_i32)(r >> i & 255), (me_i32)(g >> i & 255), (me_i32)(b >> i & 255)) << i;
    return word;
}

/* YUV in planes. */
template <int FORMAT>
ME_FN void me_yuv(const me_source &s, int row, int col, me_u32 *out) {
    const int low = s.halved ? (row - s.half_y) >> 1 : row, last = s.chroma_h - 1;
    const me_u32 y[2] = {
        me_four(me_row(s, 0, me_most(row, 0)), col, s.width, s.words[0]),
        me_four(me_row(s, 0, me_least(row + 1, s.height - 1)), col, s.width, s.words[0]),
    };
    me_u32 a[4], b[4], c[4];
    me_chroma_row<FORMAT>(s, me_most(low, 0), col, a);
    me_chroma_row<FORMAT>(s, me_least(low + 1, last), col, b);
    ME_UNROLL
    for (int i = 0; i < 4; i++) c[i] = s.upper * a[i] + (4 - s.upper) * b[i];
    ME_UNROLL
    for (int i = 0; i < 4; i++) b[i] = s.lower * a[i] + (4 - s.lower) * b[i];
    if (FORMAT == ME_YUV444P) {
        ME_UNROLL
        for (int i = 0; i < 4; i++) {
            b[i] *= 4;
            c[i] *= 4;
        }
    } else {
        me_across(c, s.half_x);
        me_across(b, s.half_x);
    }
    me_words(s.color, y, c, b, out);
}

/* One row of YUYV422: luma of four pixels, their chroma in sixteenths. */
ME_FN me_u32 me_yuyv_row(const me_source &s, int row, int col, me_u32 chroma[4]) {
    const me_u64 start = me_row(s, 0, row);
    const int at = col >> 1, last = s.chroma_w - 1;
    me_u32 w[4];
    ME_UNROLL
    for (int i = 0; i < 4; i++) {
        w[i] = me_four(start, 4 * me_least(me_most(at - 1 + i, 0), last), 4 * s.chroma_w, s.words[0]);
        chroma[i] = me_pick(w[i], 0, 0x4341) * 4; /* cb, 0, cr, 0 */
    }
    me_across(chroma, s.half_x);
    return me_pick(w[1], w[2], 0x6420);
}

ME_FN void me_yuyv(const me_source &s, int row, int col, me_u32 *out) {
    me_u32 upper[4], lower[4], y[2];
    y[0] = me_yuyv_row(s, row, col, upper);
    y[1] = me_yuyv_row(s, me_least(row + 1, s.height - 1), col, lower);
    me_words(s.color, y, upper, lower, out);
}

/* One row of packed RGB or BGR. */
ME_FN void me_packed_row(const me_source &s, int row, int col, me_u32 out[3]) {
    const me_u64 start = me_row(s, 0, row);
    me_u32 w[3];
    if (s.words[0] && col + 4 <= s.width) {
        const me_u64 here = start + (me_u32)(3 * col);
        ME_UNROLL
        for (int i = 0; i < 3; i++) w[i] = me_read32(here + 4 * i);
    } else {
        ME_UNROLL
        for (int i = 0; i < 3; i++) w[i] = me_bytes(start, 3 * col + 4 * i, 3 * s.width);
    }
    const me_u32 first = me_pick(me_pick(w[0], w[1], 0x0630), w[2], 0x5210);
    const me_u32 third = me_pick(me_pick(w[0], w[1], 0x0052), w[2], 0x7410);
    out[0] = s.format == ME_RGB24 ? first : third;
    out[1] = me_pick(me_pick(w[0], w[1], 0x0741), w[2], 0x6210);
    out[2] = s.format == ME_RGB24 ? third : first;
}

ME_FN void me_packed(const me_source &s, int row, int col, me_u32 *out) {
    me_u32 upper[3], lower[3];
    me_packed_row(s, row, col, upper);
    me_packed_row(s, me_least(row + 1, s.height - 1), col, lower);
    ME_UNROLL
    for (int c = 0; c < 3; c++) me_alternate(upper[c], lower[c], out + 2 * c);
}

/* One row of GRAY8 at full range. */
ME_FN me_u32 me_luma_row(const me_source &s, int row, int col) {
    const me_u32 y = me_four(me_row(s, 0, row), col, s.width, s.words[0]);
    me_i32 r[4], g, b;
    ME_UNROLL
    for (int i = 0; i < 4; i++) me_high_levels(&s.color, (me_i32)((y >> (8 * i) & 255) << 23), 0, 0, &r[i], &g, &b);
    return me_pack(r[0], r[1], r[2], r[3]);
}

/* GRAY8: the words of one channel, whatever the tensor has. */
ME_FN void me_luma(const me_source &s, int row, int col, me_u32 *out) {
    me_alternate(me_luma_row(s, row, col), me_luma_row(s, me_least(row + 1, s.height - 1), col), out);
}

#endif
