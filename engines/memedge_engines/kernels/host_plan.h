/* What a job of the CPU fast path comes down to, and the scratch memory for it (included by host.cpp once). */
#ifndef MEMEDGE_HOST_PLAN_H
#define MEMEDGE_HOST_PLAN_H

namespace {

enum {
    BAND = 16,         /* result rows that are turned and stored together */
    MOST_RESULTS = 16, /* of a block of any instruction set: scratch memory is the same for all */
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
    bool yuv, packed, direct, stretched; /* `direct`: rows are read where they lie; `stretched`: grey of limited range */
    me_i32 ring_rows, samples; /* `samples`: of one row that goes down, per plane */
    bool single;               /* across: each result is a sample, in a row */
};

/* Gains that can be cut in two 16-bit factors. */
bool fits(me_i32 gain) { return gain > -(1 << 30) - (1 << 29) && gain < (1 << 30) + (1 << 29); }

bool make_plan(const me_job &job, plan *p) {
    if (job.width < 1 || job.height < 1 || job.width > 1 << 24 || job.height > 1 << 24) return false;
    if (!source_span(job.x, job.width, &p->x) || !source_span(job.y, job.height, &p->y)) return false;
    if (job.format < ME_RGB24 || job.format > ME_YUYV422 || job.order < ME_ORDER_RGB || job.order > ME_ORDER_GRAY) {
        return false;
    }
    if ((long long)job.x.count * job.y.count > 1 << 30) return false;
    if (!job.target || (job.table && job.element != 1 && job.element != 2 && job.element != 4)) {
        return false;
    }
    const me_color &k = job.color;
    if (!fits(k.luma) || !fits(k.red_cr) || !fits(k.green_cb) || !fits(k.green_cr) || !fits(k.blue_cb)) return false;
    p->yuv = job.format >= ME_NV12;
    p->packed = job.format <= ME_BGR24;
    p->channels = job.order == ME_ORDER_GRAY ? 1 : 3;
    p->planes = job.format == ME_GRAY8 ? 1 : p->channels;
    p->stretched = job.format == ME_GRAY8 && (k.luma != 1 << ME_LUMA_BITS || k.base != (1 << (ME_SUM_BITS - 1)) + 1);
    p->direct = (p->packed && p->planes == 3) || (job.format == ME_GRAY8 && !p->stretched);
    p->left = p->yuv ? p->x.from & ~1 : p->x.from;
    p->columns = p->x.to - p->left;
    p->samples = p->packed && p->direct ? 3 * p->columns : p->columns;
    p->ring_rows = job.y.taps <= ME_MOST_ROWS ? job.y.taps : 1;
    p->chroma_width = job.sub_x == 2 ? (job.width + 1) / 2 : job.width;
    p->chroma_height = job.sub_y == 2 ? (job.height + 1) / 2 : job.height;
    const bool halved_across = p->yuv && job.format != ME_YUV444P;
    const bool halved_down = job.format == ME_NV12 || job.format == ME_I420;
    if (p->yuv && (job.sub_x != 1 + halved_across || job.sub_y != 1 + halved_down)) return false;
    const int planes = job.format == ME_NV12 ? 2 : p->yuv && job.format != ME_YUYV422 ? 3 : 1;
    for (int k = 0; k < planes; k++) {
        if (!job.plane[k]) return false;
    }
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
    me_i32 units, size;
    me_u8 *level[3];
    size_t level_pitch;
};

buffers take_buffers(const me_job &job, const plan &p, arena *memory) {
    buffers b = {};
    const size_t row = (size_t)p.columns + ME_SLACK;
    b.ring_pitch = (row + 63) / 64 * 64;
    for (int k = 0; k < p.planes; k++) {
        if (!p.direct) b.ring[k] = memory->take<me_u8>(b.ring_pitch * p.ring_rows);
        b.between[k] = memory->take<me_i16>(row + job.x.taps);
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
    const size_t results = ((size_t)job.x.count + MOST_RESULTS - 1) / MOST_RESULTS * MOST_RESULTS;
    b.size = job.x.taps <= 8 ? 8 : 16;
    b.units = (job.x.taps + b.size - 1) / b.size;
    b.first = memory->take<me_i32>(results);
    b.weight = memory->take<me_i16>(results * b.units * b.size);
    b.level_pitch = results;
    for (int k = 0; k < p.planes; k++) b.level[k] = memory->take<me_u8>(results * BAND);
    return b;
}

me_taps lay_out_taps(const me_job &job, const plan &p, me_i32 bytes, const buffers &b) {
    const me_i32 *first = (const me_i32 *)job.x.first, taps = job.x.taps;
    const me_i16 *weight = (const me_i16 *)job.x.weight;
    const me_i32 least = 2 * b.size, lanes = bytes > least ? bytes / least : 1, registers = b.size / 2;
    const me_i32 step = registers * lanes, blocks = (job.x.count + step - 1) / step;
    memset(b.weight, 0, sizeof(me_i16) * (size_t)(blocks * step) * b.units * b.size);
    me_i32 at = 0;
    for (me_i32 block = 0; block < blocks; block++) {
        for (me_i32 k = 0; k < step; k++, at++) {
            const me_i32 i = block * step + me_result_of(k / lanes, k % lanes, lanes);
            b.first[at] = i < job.x.count ? first[i] - p.left : 0;
            for (me_i32 unit = 0; unit < b.units && i < job.x.count; unit++) {
                me_i16 *to = b.weight + (((size_t)block * b.units + unit) * step + k) * b.size;
                const me_i32 rest = taps - unit * b.size;
                memcpy(to, weight + (size_t)i * taps + unit * b.size, sizeof(me_i16) * (rest < b.size ? rest : b.size));
            }
        }
    }
    return {b.first, b.weight, blocks, b.units, b.size, lanes};
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
