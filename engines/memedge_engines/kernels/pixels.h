/* Pixel arithmetic shared by the CPU fast path (host.cpp) and the CUDA kernel (preprocess.cu): integers only, so that two
 * loop nests give the same bytes. Two rules make it exact:
 *   - colour: chroma is interpolated in sixteenths of a level; of each gain times its sample 21 fraction bits are kept, and
 *     their sum is rounded to 8 bit once: the bytes of exact arithmetic but for one sample in a million;
 *   - resize: weights have ME_WEIGHT_BITS fraction bits and add up to exactly 1; first down (to ME_BETWEEN_BITS fraction
 *     bits), then across, one rounding each.
 * Tables and gains are made by preprocess/tables.py. Order of work: chroma upsample, matrix, clamp, 8 bit, (grey), resize in
 * stored orientation, turn, then one look-up per level in a table that holds the tensor's values.
 */
#ifndef MEMEDGE_PIXELS_H
#define MEMEDGE_PIXELS_H

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define ME_FN static __device__ __forceinline__
#else
#define ME_FN static inline
#endif

typedef unsigned char me_u8;
typedef short me_i16;
typedef unsigned short me_u16;
typedef int me_i32;
typedef unsigned int me_u32;
typedef unsigned long long me_u64;

#define ME_LUMA_BITS 30
#define ME_CHROMA_BITS 29
#define ME_SUM_BITS 21
#define ME_WEIGHT_BITS 14
#define ME_BETWEEN_BITS 7
#define ME_CHROMA_ONE 16 /* chroma enters the matrix in sixteenths of a level */

enum me_format { ME_RGB24, ME_BGR24, ME_GRAY8, ME_NV12, ME_I420, ME_YUV422P, ME_YUV444P, ME_YUYV422 };
enum me_order { ME_ORDER_RGB, ME_ORDER_BGR, ME_ORDER_GRAY };

/* Gains: of luma with ME_LUMA_BITS, of chroma with ME_CHROMA_BITS fraction bits. `base`, with ME_SUM_BITS: what is added to
 * every sum, black's offset and the half for rounding. */
typedef struct {
    me_i32 base, luma, red_cr, green_cb, green_cr, blue_cb;
} me_color;

/* One axis of the resize, of the results that the crop keeps: result i is the sum over t of
 * weight[i * taps + t] * source[first[i] + t]. Every first[i] + t lies inside the source; unused weights are zero. */
typedef struct {
    me_u64 first;  /* address of me_i32[count] */
    me_u64 weight; /* address of me_i16[count * taps] */
    me_i32 count, taps;
} me_axis;

/* One picture. `table`: [channels][256] elements of `element` bytes (1, 2 or 4); `target`: [channels][h][w] of the same,
 * h x w being count_y x count_x, exchanged when the rotation is 90 or 270. */
typedef struct {
    me_u64 plane[3];
    me_i32 pitch[3];
    me_i32 format, width, height, rotation;
    me_i32 sub_x, sub_y;   /* luma samples per chroma sample along each axis: 1 or 2 */
    me_i32 half_x, half_y; /* 1: the first chroma sample lies half a luma pixel in, 0: on the first luma pixel */
    me_i32 order, element;
    me_color color;
    me_axis x, y; /* stored orientation */
    me_u64 table, target;
} me_job;

/* Chroma neighbours of luma position p: sample `low` with 4 - quarter parts and the next one with `quarter` parts. */
ME_FN void me_chroma_tap(me_i32 p, me_i32 sub, me_i32 half, me_i32 count, me_i32 *low, me_i32 *quarter) {
    me_i32 q = sub == 2 ? 2 * p - half : 4 * p;
    me_i32 at = q >> 2, part = q & 3;
    if (q < 0) { at = 0; part = 0; }
    if (at >= count - 1) { at = count - 1; part = 0; }
    *low = at;
    *quarter = part;
}

/* Sixteenths of a level from four neighbours. */
ME_FN me_i32 me_chroma(me_i32 a, me_i32 b, me_i32 c, me_i32 d, me_i32 across, me_i32 down) {
    return (4 - down) * ((4 - across) * a + across * b) + down * ((4 - across) * c + across * d);
}

ME_FN me_u8 me_byte(me_i32 level) { return (me_u8)(level < 0 ? 0 : level > 255 ? 255 : level); }

/* The upper half of a product. (CUDA: in one instruction; a 64-bit product would be five.) */
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
ME_FN me_i32 me_high(me_i32 a, me_i32 b) { return __mulhi(a, b); }
#else
ME_FN me_i32 me_high(me_i32 a, me_i32 b) { return (me_i32)(((long long)a * b) >> 32); }
#endif

/* Rounded levels, not yet clamped to 0..255, of samples at the top of 32 bits: y << 23, (cb - 2048) << 20, (cr - 2048) << 20.
 * Each product with its gain then has ME_SUM_BITS above the lower half. (With 16-bit samples x and a gain of 65536 * a + b,
 * that is a * x + (b * x >> 16): how 16-bit vector units compute it.) */
ME_FN void me_high_levels(const me_color *k, me_i32 y, me_i32 cb, me_i32 cr, me_i32 *r, me_i32 *g, me_i32 *b) {
    const me_i32 luma = me_high(k->luma, y) + k->base;
    *r = (luma + me_high(k->red_cr, cr)) >> ME_SUM_BITS;
    *g = (luma + me_high(k->green_cb, cb) + me_high(k->green_cr, cr)) >> ME_SUM_BITS;
    *b = (luma + me_high(k->blue_cb, cb)) >> ME_SUM_BITS;
}

/* The same of y: level 0..255; cb, cr: sixteenths of a level, 0..4080. */
ME_FN void me_levels(const me_color *k, me_i32 y, me_i32 cb, me_i32 cr, me_i32 *r, me_i32 *g, me_i32 *b) {
    me_high_levels(k, y << 23, (me_i32)((me_u32)cb << 20 ^ 0x80000000u), (me_i32)((me_u32)cr << 20 ^ 0x80000000u), r, g, b);
}

ME_FN void me_rgb(const me_color *k, me_i32 y, me_i32 cb, me_i32 cr, me_u8 *r, me_u8 *g, me_u8 *b) {
    me_i32 red, green, blue;
    me_levels(k, y, cb, cr, &red, &green, &blue);
    *r = me_byte(red);
    *g = me_byte(green);
    *b = me_byte(blue);
}

/* Pillow's mode L: round(.299 R + .587 G + .114 B). */
ME_FN me_u8 me_gray(me_i32 r, me_i32 g, me_i32 b) {
    return (me_u8)((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16);
}

/* Sum of weight * level down a column, to the value between the passes (0..32640). */
ME_FN me_i32 me_between(me_i32 sum) {
    return (sum + (1 << (ME_WEIGHT_BITS - ME_BETWEEN_BITS - 1))) >> (ME_WEIGHT_BITS - ME_BETWEEN_BITS);
}

/* Sum of weight * between across a row, to a level. */
ME_FN me_u8 me_level(me_i32 sum) {
    return (me_u8)((sum + (1 << (ME_WEIGHT_BITS + ME_BETWEEN_BITS - 1))) >> (ME_WEIGHT_BITS + ME_BETWEEN_BITS));
}

/* Where result (x, y) of stored orientation lies in a target plane of the turned picture. w, h: results per axis. */
ME_FN me_i32 me_turned(me_i32 x, me_i32 y, me_i32 w, me_i32 h, me_i32 rotation) {
    if (rotation == 90) return x * h + (h - 1 - y);
    if (rotation == 180) return (h - 1 - y) * w + (w - 1 - x);
    if (rotation == 270) return (w - 1 - x) * h + y;
    return y * w + x;
}

#endif
