/* The loop nest of the CPU fast path (included by host.cpp once): source rows, down, across, placed. */
#ifndef MEMEDGE_HOST_NEST_H
#define MEMEDGE_HOST_NEST_H

#include "host_plan.h"

namespace {

class nest {
  public:
    nest(const me_job &job, const plan &p, const me_rows &rows, me_u8 *scratch) : job(job), p(p), rows(rows) {
        arena memory = {scratch, (size_t)(64 - (size_t)scratch % 64) % 64};
        b = take_buffers(job, p, &memory);
        taps = lay_out_taps(job, p, rows.bytes, b);
        const me_color &k = job.color;
        gains = {k, cut(k.luma), cut(k.red_cr), cut(k.green_cb), cut(k.green_cr), cut(k.blue_cb)};
        for (me_i32 &row : held) row = -1;
    }

    void run() {
        for (me_i32 y = 0; y < job.y.count; y++) {
            if (job.y.taps <= ME_MOST_ROWS) {
                down(y);
            } else {
                down_far(y);
            }
            const me_i32 line = y % BAND;
            for (int k = 0; k < p.planes; k++) {
                me_u8 *level = b.level[k] + b.level_pitch * line;
                if (p.single) {
                    rows.narrow(b.between[k] + ((const me_i32 *)job.x.first)[0] - p.left, job.x.count, level);
                } else {
                    rows.across(b.between[k], &taps, level);
                }
            }
            if (line == BAND - 1 || y == job.y.count - 1) place(y - line, line + 1);
        }
    }

  private:
    const me_job &job;
    const plan &p;
    const me_rows &rows;
    buffers b;
    me_taps taps;
    me_gains gains;
    me_i32 held[ME_MOST_ROWS]; /* source row in each place of the ring */

    static me_factors cut(me_i32 gain) {
        const me_i32 high = (gain + (1 << 15)) >> 16;
        return {(me_i16)high, (me_i16)(gain - high * (1 << 16))};
    }

    const me_u8 *source(int plane, me_i32 y) const {
        return (const me_u8 *)job.plane[plane] + (ptrdiff_t)job.pitch[plane] * y;
    }

    /* A row that is read where it lies. */
    const me_u8 *direct_row(me_i32 y) const { return source(0, y) + (p.packed ? 3 : 1) * (size_t)p.left; }

    /* Down ------------------------------------------------------------------------------------------------------- */

    /* Result row y between the passes, from all of its source rows at once. */
    void down(me_i32 y) {
        const me_i16 *weight = (const me_i16 *)job.y.weight + (size_t)y * job.y.taps;
        me_i32 from = 0, to = job.y.taps;
        while (to > 1 && weight[to - 1] == 0) to--;
        while (from < to - 1 && weight[from] == 0) from++;
        const me_i32 top = ((const me_i32 *)job.y.first)[y];
        const me_u8 *row[3][ME_MOST_ROWS];
        for (me_i32 t = from; t < to; t++) {
            const me_i32 at = top + t;
            if (p.direct) {
                row[0][t] = direct_row(at);
                continue;
            }
            const me_i32 slot = at % p.ring_rows;
            me_u8 *out[3] = {};
            for (int k = 0; k < p.planes; k++) row[k][t] = out[k] = b.ring[k] + b.ring_pitch * (size_t)slot;
            if (held[slot] != at) convert(at, out);
            held[slot] = at;
        }
        for (int k = 0; k < (p.direct ? 1 : p.planes); k++) {
            rows.down(row[k] + from, weight + from, to - from, p.samples, b.triples ? b.triples : b.between[k]);
        }
        if (b.triples) rows.apart(b.triples, p.columns, b.between);
    }

    /* The same for windows of many rows, one row after another; a row that two windows share is made twice. */
    void down_far(me_i32 y) {
        const me_i16 *weight = (const me_i16 *)job.y.weight + (size_t)y * job.y.taps;
        const me_i32 top = ((const me_i32 *)job.y.first)[y], lines = p.direct ? 1 : p.planes;
        const size_t pitch = (size_t)p.samples;
        memset(b.sum, 0, sizeof(me_i32) * pitch * lines);
        for (me_i32 t = 0; t < job.y.taps; t++) {
            if (weight[t] == 0) continue;
            if (!p.direct) convert(top + t, b.ring);
            const me_u8 *row[3] = {p.direct ? direct_row(top + t) : b.ring[0], b.ring[1], b.ring[2]};
            for (int k = 0; k < lines; k++) rows.add(row[k], weight[t], p.samples, b.sum + pitch * k);
        }
        for (int k = 0; k < lines; k++) {
            rows.finish(b.sum + pitch * k, p.samples, b.triples ? b.triples : b.between[k]);
        }
        if (b.triples) rows.apart(b.triples, p.columns, b.between);
    }

    /* Source rows ------------------------------------------------------------------------------------------------ */

    /* Source row y as planar levels. */
    void convert(me_i32 y, me_u8 *const out[3]) {
        if (job.format == ME_GRAY8) {
            rows.stretch(source(0, y) + p.left, &gains, p.columns, out[0]);
            return;
        }
        me_u8 *const *rgb = p.planes == 1 ? b.color : out;
        if (p.packed) {
            me_u8 *const stored[3] = {rgb[stored_place(0)], rgb[1], rgb[stored_place(2)]};
            rows.apart3(source(0, y) + 3 * (size_t)p.left, p.columns, stored);
        } else {
            color(y, rgb);
        }
        if (p.planes == 1) rows.gray(rgb, p.columns, out[0]);
    }

    int stored_place(int channel) const { return job.format == ME_BGR24 ? 2 - channel : channel; }

    void color(me_i32 y, me_u8 *const rgb[3]) {
        me_color_row row = {};
        row.luma = source(0, y) + p.left;
        row.count = p.columns;
        row.gains = &gains;
        for (int c = 0; c < 3; c++) row.out[c] = rgb[c];
        me_i32 low, quarter;
        me_chroma_tap(y, job.sub_y, job.half_y, p.chroma_height, &low, &quarter);
        const me_i32 next = quarter ? low + 1 : low;
        row.cb = b.cb[0];
        row.cr = b.cr[0];
        if (job.sub_x == 2) {
            row.siting = job.half_x ? ME_BETWEEN : ME_ON_EVEN;
            shared_chroma(y, low, next, quarter, &row.luma);
        } else {
            row.siting = ME_ON_ALL;
            row.cb_odd = b.cb[1];
            row.cr_odd = b.cr[1];
            own_chroma(low, next, quarter);
        }
        rows.color(&row);
    }

    /* Chroma of two columns each, with one more sample on either side; those outside the picture repeat its edge. */
    void shared_chroma(me_i32 y, me_i32 low, me_i32 next, me_i32 quarter, const me_u8 **luma) {
        const me_i32 origin = p.left / 2, last = (p.x.to - 1) / 2 + 2;
        const me_i32 from = origin ? origin - 1 : 0, to = last < p.chroma_width ? last : p.chroma_width;
        me_i16 *cb = b.cb[0] + (from - origin), *cr = b.cr[0] + (from - origin);
        const size_t skip = (size_t)from;
        if (job.format == ME_NV12) {
            rows.blend2(source(1, low) + 2 * skip, source(1, next) + 2 * skip, quarter, to - from, cb, cr);
        } else if (job.format == ME_YUYV422) {
            /* One such row holds luma and, like NV12's second plane, chroma in pairs. */
            rows.apart2(source(0, y) + 4 * skip, 2 * (to - from), b.luma, b.chroma);
            rows.blend2(b.chroma, b.chroma, 0, to - from, cb, cr);
            *luma = b.luma + 2 * (origin - from);
        } else {
            rows.blend(source(1, low) + skip, source(1, next) + skip, quarter, to - from, cb);
            rows.blend(source(2, low) + skip, source(2, next) + skip, quarter, to - from, cr);
        }
        repeat_edges(b.cb[0], origin == 0, to == p.chroma_width, to - origin);
        repeat_edges(b.cr[0], origin == 0, to == p.chroma_width, to - origin);
    }

    static void repeat_edges(me_i16 *row, bool left, bool right, me_i32 count) {
        if (left) row[-1] = row[0];
        if (right) row[count] = row[count - 1];
    }

    /* A chroma sample for each column, those of even and of odd columns apart. */
    void own_chroma(me_i32 low, me_i32 next, me_i32 quarter) {
        const me_i32 pairs = p.columns / 2, rest = p.columns & 1;
        for (int plane = 1; plane <= 2; plane++) {
            me_i16 *const *out = plane == 1 ? b.cb : b.cr;
            const me_u8 *upper = source(plane, low) + p.left, *lower = source(plane, next) + p.left;
            rows.blend2(upper, lower, quarter, pairs, out[0], out[1]);
            if (rest) rows.blend(upper + 2 * pairs, lower + 2 * pairs, quarter, 1, out[0] + pairs);
        }
    }

    /* Results ---------------------------------------------------------------------------------------------------- */

    /* Resized plane of result channel c. */
    int plane_of(int c) const {
        if (p.planes == 1) return 0;
        const int color = job.order == ME_ORDER_BGR ? 2 - c : c;
        return p.direct ? stored_place(color) : color;
    }

    /* Result rows y to y + count, which lie in `level`, to their turned places. */
    void place(me_i32 y, me_i32 count) {
        const me_i32 w = job.x.count, h = job.y.count;
        /* Place of (0, 0), and the steps from one column and from one row to the next. */
        const ptrdiff_t origin = me_turned(0, 0, w, h, job.rotation);
        const ptrdiff_t across = me_turned(1, 0, w, h, job.rotation) - origin;
        const ptrdiff_t along = me_turned(0, 1, w, h, job.rotation) - origin;
        const ptrdiff_t begin = origin + along * y, channels = job.table ? 1 : p.channels;
        if (!job.table && p.channels == 3 && job.rotation == 0) {
            for (me_i32 line = 0; line < count; line++) {
                const me_u8 *row[3];
                for (int c = 0; c < 3; c++) row[c] = b.level[plane_of(c)] + b.level_pitch * line;
                rows.together(row, w, (me_u8 *)job.target + 3 * (begin + along * line));
            }
            return;
        }
        const size_t size = (size_t)w * h;
        for (int c = 0; c < p.channels; c++) {
            const me_u8 *level = b.level[plane_of(c)];
            if (!job.table) {
                static const copied same;
                put(level, count, same, (me_u8 *)job.target + channels * begin + c, channels * across, channels * along);
            } else if (job.element == 4) {
                look_up<me_u32>(level, count, c, size, begin, across, along);
            } else if (job.element == 2) {
                look_up<me_u16>(level, count, c, size, begin, across, along);
            } else {
                look_up<me_u8>(level, count, c, size, begin, across, along);
            }
        }
    }

    struct copied {
        me_u8 operator[](me_u8 level) const { return level; }
    };

    template <typename T>
    void look_up(const me_u8 *level, me_i32 count, int c, size_t size, ptrdiff_t begin, ptrdiff_t across,
                 ptrdiff_t along) const {
        put(level, count, (const T *)job.table + 256 * c, (T *)job.target + size * c + begin, across, along);
    }

    /* Columns inside when they are neighbours in the target, rows inside when a quarter turn makes those neighbours. */
    template <typename Table, typename T>
    void put(const me_u8 *level, me_i32 count, const Table &table, T *target, ptrdiff_t across, ptrdiff_t along) const {
        const me_i32 w = job.x.count;
        if (job.rotation == 90 || job.rotation == 270) {
            for (me_i32 x = 0; x < w; x++) {
                for (me_i32 line = 0; line < count; line++) {
                    target[across * x + along * line] = table[level[b.level_pitch * line + x]];
                }
            }
            return;
        }
        for (me_i32 line = 0; line < count; line++) {
            const me_u8 *row = level + b.level_pitch * line;
            T *to = target + along * line;
            if (across == 1) {
                for (me_i32 x = 0; x < w; x++) to[x] = table[row[x]];
            } else {
                for (me_i32 x = 0; x < w; x++) to[across * x] = table[row[x]];
            }
        }
    }
};

}  // namespace

#endif
