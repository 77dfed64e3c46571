/* Row kernels of NEON (any 64-bit Arm), and its vector operations for host_color.h. */

typedef int16x8_t vec;
typedef int32x4_t wide;
struct v_couples {
    int16x4_t low, high;
};
typedef v_couples v_factors;
enum { V_BYTES = 16 };

static inline vec v_load(const void *from) { return vreinterpretq_s16_u8(vld1q_u8((const me_u8 *)from)); }
static inline void v_store(void *to, vec a) { vst1q_u8((me_u8 *)to, vreinterpretq_u8_s16(a)); }
static inline vec v_set16(me_i32 a) { return vdupq_n_s16((short)a); }
static inline wide v_set32(me_i32 a) { return vdupq_n_s32(a); }
static inline v_factors v_pair(me_i32 low, me_i32 high) { return {vdup_n_s16((short)low), vdup_n_s16((short)high)}; }
static inline vec v_and(vec a, vec b) { return vandq_s16(a, b); }
static inline vec v_add16(vec a, vec b) { return vaddq_s16(a, b); }
template <int N> static inline vec v_left16(vec a) { return vshlq_n_s16(a, N); }
template <int N> static inline vec v_right16(vec a) {
    return vreinterpretq_s16_u16(vshrq_n_u16(vreinterpretq_u16_s16(a), N));
}
template <int N> static inline wide v_right32(wide a) { return vshrq_n_s32(a, N); }
static inline v_couples v_low16(vec a, vec b) { return {vget_low_s16(a), vget_low_s16(b)}; }
static inline v_couples v_high16(vec a, vec b) { return {vget_high_s16(a), vget_high_s16(b)}; }
static inline vec v_pack32(wide a, wide b) { return vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)); }

/* Upper halves of the products. */
static inline vec v_upper16(vec a, vec b) {
    const int16x8_t low = vreinterpretq_s16_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)));
    return vuzp2q_s16(low, vreinterpretq_s16_s32(vmull_high_s16(a, b)));
}

static inline wide v_dot(wide sum, v_couples a, v_factors b) {
    return vmlal_s16(vmlal_s16(sum, a.low, b.low), a.high, b.high);
}

/* Clamped to bytes, one of `even`, one of `odd` in turn. */
static inline vec v_weave(vec even, vec odd) {
    const uint8x8x2_t both = vzip_u8(vqmovun_s16(even), vqmovun_s16(odd));
    return vreinterpretq_s16_u8(vcombine_u8(both.val[0], both.val[1]));
}

static void down(const me_u8 *const *row, const me_i16 *weight, me_i32 taps, me_i32 count, me_i16 *between) {
    if (taps == 1 || count < V_BYTES) {
        down_loop(row, weight, taps, count, between);
        return;
    }
    /* The last step ends with the row and does part of the one before it again. */
    for (me_i32 next = 0; next < count; next += V_BYTES) {
        const me_i32 x = next < count - V_BYTES ? next : count - V_BYTES;
        uint32x4_t sum[4] = {vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0)};
        for (me_i32 t = 0; t < taps; t++) {
            const uint8x16_t bytes = vld1q_u8(row[t] + x);
            const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
            const me_u16 part = (me_u16)weight[t];
            sum[0] = vmlal_n_u16(sum[0], vget_low_u16(low), part);
            sum[1] = vmlal_high_n_u16(sum[1], low, part);
            sum[2] = vmlal_n_u16(sum[2], vget_low_u16(high), part);
            sum[3] = vmlal_high_n_u16(sum[3], high, part);
        }
        /* The narrowing shift rounds as me_between does. */
        for (int k = 0; k < 2; k++) {
            const uint16x4_t first = vrshrn_n_u32(sum[2 * k], ME_WEIGHT_BITS - ME_BETWEEN_BITS);
            const uint16x4_t second = vrshrn_n_u32(sum[2 * k + 1], ME_WEIGHT_BITS - ME_BETWEEN_BITS);
            vst1q_s16(between + x + 8 * k, vreinterpretq_s16_u16(vcombine_u16(first, second)));
        }
    }
}

/* One unit of SIZE taps of one result. */
template <int SIZE> static inline int32x4_t unit_sum(int32x4_t sum, const me_i16 *sample, const me_i16 *weight) {
    for (int i = 0; i < SIZE; i += 8) {
        const int16x8_t a = vld1q_s16(sample + i), b = vld1q_s16(weight + i);
        sum = vmlal_high_s16(vmlal_s16(sum, vget_low_s16(a), vget_low_s16(b)), a, b);
    }
    return sum;
}

template <int SIZE> static inline void across_units(const me_i16 *between, const me_taps *taps, me_u8 *level) {
    enum { REGISTERS = SIZE / 2 };
    const me_i16 *weight = taps->weight;
    const me_i32 *first = taps->first;
    for (me_i32 block = 0; block < taps->blocks; block++, level += REGISTERS, first += REGISTERS) {
        int32x4_t sum[REGISTERS];
        for (int k = 0; k < REGISTERS; k++) sum[k] = vdupq_n_s32(0);
        for (me_i32 unit = 0; unit < taps->units; unit++) {
            for (int k = 0; k < REGISTERS; k++, weight += SIZE) {
                sum[k] = unit_sum<SIZE>(sum[k], between + first[k] + SIZE * unit, weight);
            }
        }
        for (int k = 0; k < REGISTERS; k += 4) {
            const int32x4_t total =
                vpaddq_s32(vpaddq_s32(sum[k], sum[k + 1]), vpaddq_s32(sum[k + 2], sum[k + 3]));
            me_i32 rounded[4];
            vst1q_s32(rounded, vrshrq_n_s32(total, ME_WEIGHT_BITS + ME_BETWEEN_BITS));
            for (int i = 0; i < 4; i++) level[k + i] = (me_u8)rounded[i];
        }
    }
}

static void across(const me_i16 *between, const me_taps *taps, me_u8 *level) {
    if (taps->size == 8) {
        across_units<8>(between, taps, level);
    } else {
        across_units<16>(between, taps, level);
    }
}

static void apart(const me_i16 *triples, me_i32 count, me_i16 *const out[3]) {
    for (me_i32 i = 0; i < count; i += 8) {
        const int16x8x3_t all = vld3q_s16(triples + 3 * i);
        for (int k = 0; k < 3; k++) vst1q_s16(out[k] + i, all.val[k]);
    }
}

static void together(const me_u8 *const row[3], me_i32 count, me_u8 *triples) {
    me_i32 x = 0;
    for (; x + 16 <= count; x += 16) {
        const uint8x16x3_t all = {{vld1q_u8(row[0] + x), vld1q_u8(row[1] + x), vld1q_u8(row[2] + x)}};
        vst3q_u8(triples + 3 * x, all);
    }
    const me_u8 *const rest[3] = {row[0] + x, row[1] + x, row[2] + x};
    together_loop(rest, count - x, triples + 3 * x);
}
