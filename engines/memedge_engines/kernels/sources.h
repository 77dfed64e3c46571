/* Four pixels of a row, in any pixel format, as one word a channel (the first pixel in the lowest byte), R, G, B or grey.
 * Columns beyond the right edge come out as something, never from outside the row: no weight reaches them.
 * Needs device.h or emulate.h before it.
 */
#ifndef MEMEDGE_SOURCES_H
#define MEMEDGE_SOURCES_H

/* What of a job decides its pixels. */
struct me_source {
    me_u64 plane[3];
    me_i32 pitch[3];
    me_i32 format, width, chroma_w, chroma_h;
    me_i32 sub_y, half_x, half_y;
    bool words[3]; /* rows of the plane begin at multiples of four bytes */
    me_color color;
};

ME_FN me_source me_source_of(const me_job *job) {
    me_source s;
    for (int i = 0; i < 3; i++) {
        s.plane[i] = job->plane[i];
        s.pitch[i] = job->pitch[i];
        s.words[i] = (((me_u32)job->plane[i] | (me_u32)job->pitch[i]) & 3) == 0;
    }
    s.format = job->format;
    s.width = job->width;
    s.chroma_w = job->sub_x == 2 ? (job->width + 1) >> 1 : job->width;
    s.chroma_h = job->sub_y == 2 ? (job->height + 1) >> 1 : job->height;
    s.sub_y = job->sub_y;
    s.half_x = job->half_x;
    s.half_y = job->half_y;
    s.color = job->color;
    return s;
}

ME_FN me_i32 me_least(me_i32 a, me_i32 b) { return a < b ? a : b; }
ME_FN me_i32 me_most(me_i32 a, me_i32 b) { return a > b ? a : b; }

ME_FN me_u64 me_row(const me_source &s, int plane, int row) {
    return s.plane[plane] + (me_u64)row * (me_u32)s.pitch[plane];
}

/* Bytes at..at+3 of a row of `end` bytes; the last byte stands in for those beyond. */
ME_FN me_u32 me_four(me_u64 row, int at, int end, bool words) {
    if (words && at + 4 <= end) return me_read32(row + at);
    me_u32 word = 0;
    ME_ROLLED
    for (int i = 0; i < 4; i++) word |= me_read8(row + me_least(at + i, end - 1)) << (8 * i);
    return word;
}

/* Two bytes, the first one below. */
ME_FN me_u32 me_two(me_u64 address, bool words) {
    return words ? me_read16(address) : me_read8(address) | me_read8(address + 1) << 8;
}

/* Two chroma samples side by side in sixteen bits each: cb below, cr above. */
ME_FN me_u32 me_couple(me_u32 cb, me_u32 cr) { return cb | cr << 16; }

/* The chroma samples that pixels col..col+3 (col a multiple of four) lie between, of one chroma row. Subsampled across:
 * those before, at, at and behind the two pairs of pixels; else one a pixel. */
template <int FORMAT>
ME_FN void me_chroma_row(const me_source &s, int row, int col, me_u32 out[4]) {
    const int last = s.chroma_w - 1, at = FORMAT == ME_YUV444P ? col : col >> 1;
    if (FORMAT == ME_YUV444P) {
        const me_u32 cb = me_four(me_row(s, 1, row), at, s.chroma_w, s.words[1]);
        const me_u32 cr = me_four(me_row(s, 2, row), at, s.chroma_w, s.words[2]);
        ME_UNROLL
        for (int i = 0; i < 4; i++) out[i] = me_couple(cb >> (8 * i) & 255, cr >> (8 * i) & 255);
        return;
    }
    const int before = me_most(at - 1, 0), next = me_least(at + 1, last), behind = me_least(at + 2, last);
    if (FORMAT == ME_NV12) {
        const me_u64 start = me_row(s, 1, row);
        const bool words = s.words[1];
        const me_u32 middle = words && at < last ? me_read32(start + 2 * at)
                                                 : me_two(start + 2 * at, words) | me_two(start + 2 * next, words) << 16;
        out[0] = me_pick(me_two(start + 2 * before, words), 0, 0x4140);
        out[1] = me_pick(middle, 0, 0x4140);
        out[2] = me_pick(middle, 0, 0x4342);
        out[3] = me_pick(me_two(start + 2 * behind, words), 0, 0x4140);
        return;
    }
    const me_u64 cb = me_row(s, 1, row), cr = me_row(s, 2, row);
    out[0] = me_couple(me_read8(cb + before), me_read8(cr + before));
    if (s.words[1] && s.words[2] && at < last) {
        const me_u32 both = me_couple(me_read16(cb + at), me_read16(cr + at));
        out[1] = me_pick(both, 0, 0x4240);
        out[2] = me_pick(both, 0, 0x4341);
    } else {
        out[1] = me_couple(me_read8(cb + at), me_read8(cr + at));
        out[2] = me_couple(me_read8(cb + next), me_read8(cr + next));
    }
    out[3] = me_couple(me_read8(cb + behind), me_read8(cr + behind));
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

/* Levels of four pixels, not clamped, to the words of the channels. */
template <int CHANNELS>
ME_FN void me_words(const me_i32 r[4], const me_i32 g[4], const me_i32 b[4], me_u32 *out) {
    if (CHANNELS == 1) {
        me_i32 v[4];
        ME_UNROLL
        for (int i = 0; i < 4; i++) v[i] = me_gray(me_byte(r[i]), me_byte(g[i]), me_byte(b[i]));
        out[0] = me_pack(v[0], v[1], v[2], v[3]);
        return;
    }
    out[0] = me_pack(r[0], r[1], r[2], r[3]);
    out[1] = me_pack(g[0], g[1], g[2], g[3]);
    out[2] = me_pack(b[0], b[1], b[2], b[3]);
}

/* YUV in any arrangement. */
template <int CHANNELS, int FORMAT>
ME_FN void me_yuv(const me_source &s, int row, int col, me_u32 *out) {
    me_u32 y, c[4];
    if (FORMAT == ME_YUYV422) {
        const me_u64 start = me_row(s, 0, row);
        const int at = col >> 1, last = s.chroma_w - 1;
        me_u32 w[4];
        ME_UNROLL
        for (int i = 0; i < 4; i++) {
            w[i] = me_four(start, 4 * me_least(me_most(at - 1 + i, 0), last), 4 * s.chroma_w, s.words[0]);
            c[i] = me_pick(w[i], 0, 0x4341) * 4; /* cb, 0, cr, 0 */
        }
        y = me_pick(w[1], w[2], 0x6420);
    } else {
        y = me_four(me_row(s, 0, row), col, s.width, s.words[0]);
        me_i32 low = row, quarter = 0;
        if (s.sub_y == 2) me_chroma_tap(row, 2, s.half_y, s.chroma_h, &low, &quarter);
        me_chroma_row<FORMAT>(s, low, col, c);
        if (quarter == 0) {
            ME_UNROLL
            for (int i = 0; i < 4; i++) c[i] *= 4;
        } else {
            me_u32 next[4];
            me_chroma_row<FORMAT>(s, low + 1, col, next);
            ME_UNROLL
            for (int i = 0; i < 4; i++) c[i] = (4 - quarter) * c[i] + quarter * next[i];
        }
    }
    if (FORMAT == ME_YUV444P) {
        ME_UNROLL
        for (int i = 0; i < 4; i++) c[i] *= 4;
    } else {
        me_across(c, s.half_x);
    }
    me_i32 r[4], g[4], b[4];
    ME_UNROLL
    for (int i = 0; i < 4; i++)
        me_levels(&s.color, (me_i32)(y >> (8 * i) & 255), (me_i32)(c[i] & 0xffff), (me_i32)(c[i] >> 16), &r[i], &g[i],
                  &b[i]);
    me_words<CHANNELS>(r, g, b, out);
}

/* Packed RGB or BGR. */
template <int CHANNELS>
ME_FN void me_packed(const me_source &s, int row, int col, me_u32 *out) {
    const me_u64 start = me_row(s, 0, row);
    const int end = 3 * s.width;
    const me_u32 w0 = me_four(start, 3 * col, end, s.words[0]);
    const me_u32 w1 = me_four(start, 3 * col + 4, end, s.words[0]);
    const me_u32 w2 = me_four(start, 3 * col + 8, end, s.words[0]);
    const me_u32 first = me_pick(me_pick(w0, w1, 0x0630), w2, 0x5210);
    const me_u32 second = me_pick(me_pick(w0, w1, 0x0741), w2, 0x6210);
    const me_u32 third = me_pick(me_pick(w0, w1, 0x0052), w2, 0x7410);
    const me_u32 red = s.format == ME_RGB24 ? first : third, blue = s.format == ME_RGB24 ? third : first;
    if (CHANNELS == 3) {
        out[0] = red;
        out[1] = second;
        out[2] = blue;
        return;
    }
    out[0] = 0;
    ME_UNROLL
    for (int i = 0; i < 4; i++)
        out[0] |= (me_u32)me_gray(red >> (8 * i) & 255, second >> (8 * i) & 255, blue >> (8 * i) & 255) << (8 * i);
}

/* GRAY8: always one channel, whatever the tensor has. */
ME_FN void me_luma(const me_source &s, int row, int col, me_u32 *out) {
    const me_u32 y = me_four(me_row(s, 0, row), col, s.width, s.words[0]);
    me_i32 r[4], g, b;
    ME_UNROLL
    for (int i = 0; i < 4; i++)
        me_levels(&s.color, (me_i32)(y >> (8 * i) & 255), 128 * ME_CHROMA_ONE, 128 * ME_CHROMA_ONE, &r[i], &g, &b);
    out[0] = me_pack(r[0], r[1], r[2], r[3]);
}

#endif
