/* What a job of the CPU fast path comes down to, and the scratch memory for it (included by host.cpp once). */
#ifndef MEMEDGE_HOST_PLAN_H
#define MEMEDGE_HOST_PLAN_H

namespace {

enum {
    BAND = 16,      /* result rows that are turned and stored together */
    MOST_LANES = 4, /* of any instruction set: scratch memory is the same for all */
};

struct span {
    me_i32 from, to;
};

/* Source samples that an axis reads; false where they lie outside. */
bool source_span(const me_axis &axis, me_i32 size, span *found) {
    const me_i32 *first = (const me_i32 *)axis.first;
    if (axis.count < 1 || axis.taps < 1 || axis.taps > size || !first || !axis.weight) return false;
    *found = {first[0], first[0]};
    for (me_i32 i = 0; i < axis.count; i++) {
        if (first[i] < 0 || first[i] > size - axis.taps) return false;
        if (first[i] < found->from) found->from = first[i];
        if (first[i] > found->to) found->to = first[i];
    }
    found->to += axis.taps;
    return true;
}

/* What a job comes down to. */
struct plan {
    span x, y;
    me_i32 left, columns; /* source columns that are worked on; `left` is even where chroma is shared by two */
    me_i32 chroma_width, chroma_height;
    me_i32 channels, planes; /* of the result; of a source row that is resized */
    bool yuv, packed, direct, levels; /* `direct`: rows are read where they lie; `levels`: grey levels are looked up */
    me_i32 ring_rows, samples; /* `samples`: of one row that goes down, per plane */
    bool single;               /* across: each result is a sample, in a row */
};

bool fits_gain(me_i32 gain) { return gain > -(1 << 19) && gain < (1 << 19); }

bool make_plan(const me_job &job, plan *p) {
    if (job.width < 1 || job.height < 1 || job.width > 1 << 24 || job.height > 1 << 24) return false;
    if (!source_span(job.x, job.width, &p->x) || !source_span(job.y, job.height, &p->y)) return false;
    if (job.format < ME_RGB24 || job.format > ME_YUYV422 || job.order < ME_ORDER_RGB || job.order > ME_ORDER_GRAY) {
        return false;
    }
    if (!job.target || !job.plane[0] || (job.table && job.element != 1 && job.element != 2 && job.element != 4)) {
        return false;
    }
    const me_color &k = job.color;
    if (k.luma < 0 || k.luma > 1 << 18 || k.offset < 0 || k.offset > 16 * 255 || !fits_gain(k.red_cr) ||
        !fits_gain(k.green_cb) || !fits_gain(k.green_cr) || !fits_gain(k.blue_cb)) {
        return false;
    }
    p->yuv = job.format >= ME_NV12;
    p->packed = job.format <= ME_BGR24;
    p->channels = job.order == ME_ORDER_GRAY ? 1 : 3;
    p->planes = job.format == ME_GRAY8 ? 1 : p->channels;
    p->levels = job.format == ME_GRAY8 && (k.luma != 1 << ME_GAIN_BITS || k.offset != 0);
    p->direct = (p->packed && p->planes == 3) || (job.format == ME_GRAY8 && !p->levels);
    p->left = p->yuv ? p->x.from & ~1 : p->x.from;
    p->columns = p->x.to - p->left;
    p->samples = p->packed && p->direct ? 3 * p->columns : p->columns;
    p->ring_rows = job.y.taps <= ME_MOST_ROWS ? job.y.taps : 1;
    p->chroma_width = job.sub_x == 2 ? (job.width + 1) / 2 : job.width;
    p->chroma_height = job.sub_y == 2 ? (job.height + 1) / 2 : job.height;
    if (p->yuv && (job.sub_x < 1 || job.sub_x > 2 || job.sub_y < 1 || job.sub_y > 2)) return false;
    p->single = job.x.taps == 1;
    const me_i32 *first = (const me_i32 *)job.x.first;
    for (me_i32 i = 1; i < job.x.count && p->single; i++) p->single = first[i] == first[i - 1] + 1;
    return true;
}

/* Scratch memory, cut into pieces; without memory it only counts. */
struct arena {
    me_u8 *memory;
    size_t used;

    template <typename T> T *take(size_t count) {
        T *piece = memory ? (T *)(memory + used) : nullptr;
        used += (count * sizeof(T) + 63) / 64 * 64;
        return piece;
    }
};

struct buffers {
    me_u8 *ring[3];
    size_t ring_pitch;
    me_i16 *between[3], *triples;
    me_i32 *sum;
    me_u8 *color[3], *luma, *chroma;
    me_i16 *cb[2], *cr[2]; /* position 0: the first chroma sample of the columns; the one before it may be read */
    me_i32 *first;
    me_i16 *weight;
    me_i32 units;
    me_u8 *level[3];
    size_t level_pitch;
};

buffers take_buffers(const me_job &job, const plan &p, arena *memory) {
    buffers b = {};
    const size_t row = (size_t)p.columns + ME_SLACK;
    b.ring_pitch = (row + 63) / 64 * 64;
    for (int k = 0; k < p.planes; k++) {
        if (!p.direct) b.ring[k] = memory->take<me_u8>(b.ring_pitch * p.ring_rows);
        b.between[k] = memory->take<me_i16>(row + ME_UNIT * (size_t)((job.x.taps + ME_UNIT - 1) / ME_UNIT));
    }
    if (p.packed && p.direct) b.triples = memory->take<me_i16>(3 * row);
    if (job.y.taps > ME_MOST_ROWS) b.sum = memory->take<me_i32>(3 * row);
    if (p.planes == 1 && (p.yuv || p.packed)) {
        for (int k = 0; k < 3; k++) b.color[k] = memory->take<me_u8>(row);
    }
    if (p.yuv) {
        b.luma = memory->take<me_u8>(row);
        b.chroma = memory->take<me_u8>(row);
        for (int k = 0; k < 2; k++) {
            b.cb[k] = memory->take<me_i16>(row + 64);
            b.cr[k] = memory->take<me_i16>(row + 64);
            if (memory->memory) b.cb[k] += 32, b.cr[k] += 32;
        }
    }
    const size_t step = 4 * MOST_LANES, results = (job.x.count + step - 1) / step * step;
    b.units = (job.x.taps + ME_UNIT - 1) / ME_UNIT;
    b.first = memory->take<me_i32>(results);
    b.weight = memory->take<me_i16>(results * b.units * ME_UNIT);
    b.level_pitch = results;
    for (int k = 0; k < p.planes; k++) b.level[k] = memory->take<me_u8>(results * BAND);
    return b;
}

me_taps lay_out_taps(const me_job &job, const plan &p, me_i32 lanes, const buffers &b) {
    const me_i32 *first = (const me_i32 *)job.x.first, taps = job.x.taps, step = 4 * lanes;
    const me_i16 *weight = (const me_i16 *)job.x.weight;
    const me_i32 blocks = (job.x.count + step - 1) / step;
    memset(b.first, 0, sizeof(me_i32) * (size_t)(blocks * step));
    memset(b.weight, 0, sizeof(me_i16) * (size_t)(blocks * step) * b.units * ME_UNIT);
    for (me_i32 i = 0; i < job.x.count; i++) {
        const me_i32 block = i / step, lane = i % step / 4, k = i % 4;
        b.first[i] = first[i] - p.left;
        for (me_i32 unit = 0; unit < b.units; unit++) {
            me_i16 *to = b.weight + ((((size_t)block * b.units + unit) * 4 + k) * lanes + lane) * ME_UNIT;
            const me_i32 rest = taps - unit * ME_UNIT;
            memcpy(to, weight + (size_t)i * taps + unit * ME_UNIT, sizeof(me_i16) * (rest < ME_UNIT ? rest : ME_UNIT));
        }
    }
    return {b.first, b.weight, blocks, b.units};
}

/* Scratch memory of a job in bytes; 0 when it is not valid. */
me_u64 scratch_bytes(const me_job &job) {
    plan p;
    if (!make_plan(job, &p)) return 0;
    arena counted = {nullptr, 64}; /* for an address that is not aligned */
    take_buffers(job, p, &counted);
    return counted.used;
}

}  // namespace

#endif
