/* Row kernels of AVX-512 with VNNI and VBMI, and its vector operations for host_color.h. Across, AVX2 is as quick. */

typedef __m512i vec, wide, v_couples, v_factors;
enum { V_BYTES = 64 };

static inline vec v_load(const void *from) { return _mm512_loadu_si512(from); }
static inline void v_store(void *to, vec a) { _mm512_storeu_si512(to, a); }
static inline vec v_set16(me_i32 a) { return _mm512_set1_epi16((short)a); }
static inline vec v_set32(me_i32 a) { return _mm512_set1_epi32(a); }
static inline vec v_and(vec a, vec b) { return _mm512_and_si512(a, b); }
static inline vec v_add16(vec a, vec b) { return _mm512_add_epi16(a, b); }
static inline vec v_add32(vec a, vec b) { return _mm512_add_epi32(a, b); }
static inline vec v_upper16(vec a, vec b) { return _mm512_mulhi_epi16(a, b); }
template <int N> static inline vec v_left16(vec a) { return _mm512_slli_epi16(a, N); }
template <int N> static inline vec v_right16(vec a) { return _mm512_srli_epi16(a, N); }
template <int N> static inline vec v_right32(vec a) { return _mm512_srai_epi32(a, N); }
static inline vec v_low8(vec a, vec b) { return _mm512_unpacklo_epi8(a, b); }
static inline vec v_high8(vec a, vec b) { return _mm512_unpackhi_epi8(a, b); }
static inline vec v_low16(vec a, vec b) { return _mm512_unpacklo_epi16(a, b); }
static inline vec v_high16(vec a, vec b) { return _mm512_unpackhi_epi16(a, b); }
static inline vec v_pack32(vec a, vec b) { return _mm512_packs_epi32(a, b); }
static inline vec v_dot(vec sum, vec a, vec b) { return _mm512_dpwssd_epi32(sum, a, b); }

/* A pair of 16-bit factors in every 32-bit element. */
static inline vec v_pair(me_i32 low, me_i32 high) {
    return v_set32((me_i32)((me_u32)(low & 0xffff) | (me_u32)high << 16));
}

/* Clamped to bytes, one of `even`, one of `odd` in turn. */
static inline vec v_weave(vec even, vec odd) {
    const vec order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
    return _mm512_shuffle_epi8(_mm512_packus_epi16(even, odd), order);
}

/* Lanes of both in turn. */
static inline void v_store_halves(me_i16 *to, vec low, vec high) {
    v_store(to, _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high));
    v_store(to + 32, _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high));
}

/* Four rows at a time, bytes times bytes: a weight is 128 * high + low with both below 128, and
 * me_between(128 * sum of high parts + sum of low parts) = sum of high parts + me_between(sum of low parts). A weight of 1,
 * which has no such parts, stands alone: then there is one row. */
struct quads {
    const me_u8 *row[ME_MOST_ROWS + 3];
    me_i32 low[ME_MOST_ROWS / 4], high[ME_MOST_ROWS / 4];
    me_i32 count;
};

template <bool MASKED> static inline vec down_load(const me_u8 *row, __mmask64 mask) {
    return MASKED ? _mm512_maskz_loadu_epi8(mask, row) : v_load(row);
}

template <bool MASKED> static inline void down_step(const quads &k, me_i32 x, __mmask64 mask, me_i16 *between) {
    vec low[4], high[4];
    for (int i = 0; i < 4; i++) {
        low[i] = v_set32(1 << (ME_WEIGHT_BITS - ME_BETWEEN_BITS - 1));
        high[i] = v_set32(0);
    }
    const me_u8 *const *row = k.row;
    for (me_i32 q = 0; q < k.count; q++, row += 4) {
        const vec a = down_load<MASKED>(row[0] + x, mask), b = down_load<MASKED>(row[1] + x, mask);
        const vec c = down_load<MASKED>(row[2] + x, mask), d = down_load<MASKED>(row[3] + x, mask);
        const vec ab[2] = {v_low8(a, b), v_high8(a, b)}, cd[2] = {v_low8(c, d), v_high8(c, d)};
        const vec low_part = v_set32(k.low[q]), high_part = v_set32(k.high[q]);
        for (int i = 0; i < 4; i++) {
            const vec four = i & 1 ? v_high16(ab[i / 2], cd[i / 2]) : v_low16(ab[i / 2], cd[i / 2]);
            low[i] = _mm512_dpbusd_epi32(low[i], four, low_part);
            high[i] = _mm512_dpbusd_epi32(high[i], four, high_part);
        }
    }
    for (int i = 0; i < 4; i++) low[i] = v_add32(high[i], v_right32<ME_WEIGHT_BITS - ME_BETWEEN_BITS>(low[i]));
    v_store_halves(between + x, v_pack32(low[0], low[1]), v_pack32(low[2], low[3]));
}

static void down(const me_u8 *const *row, const me_i16 *weight, me_i32 taps, me_i32 count, me_i16 *between) {
    if (taps == 1) {
        widen(row[0], count, between);
        return;
    }
    quads k;
    k.count = (taps + 3) / 4;
    for (me_i32 q = 0; q < k.count; q++) {
        me_u32 low = 0, high = 0;
        for (me_i32 i = 0; i < 4; i++) {
            const me_i32 t = 4 * q + i, value = t < taps ? weight[t] : 0;
            k.row[t] = row[t < taps ? t : taps - 1];
            low |= (me_u32)(value & 127) << (8 * i);
            high |= (me_u32)(value >> 7) << (8 * i);
        }
        k.low[q] = (me_i32)low;
        k.high[q] = (me_i32)high;
    }
    me_i32 x = 0;
    for (; x + V_BYTES <= count; x += V_BYTES) down_step<false>(k, x, 0, between);
    /* Rows of a frame are read exactly; `between` is scratch, which has room for whole vectors. */
    if (x < count) down_step<true>(k, x, ((__mmask64)1 << (count - x)) - 1, between);
}

/* Where samples of the 32 triples lie in three vectors: no two of a channel at the same place, so that two blends collect
 * them and one permutation orders them. */
struct apart_order {
    me_u32 second[3], third[3];
    me_u8 byte[3][64];
    constexpr apart_order() : second(), third(), byte() {
        for (int k = 0; k < 3; k++) {
            for (int i = 0; i < 32; i++) {
                const int at = 3 * i + k, place = at % 32;
                if (at / 32 == 1) second[k] |= 1u << place;
                if (at / 32 == 2) third[k] |= 1u << place;
                byte[k][2 * i] = (me_u8)(2 * place);
                byte[k][2 * i + 1] = (me_u8)(2 * place + 1);
            }
        }
    }
};

static void apart(const me_i16 *triples, me_i32 count, me_i16 *const out[3]) {
    static constexpr apart_order order;
    vec index[3];
    for (int k = 0; k < 3; k++) index[k] = v_load(order.byte[k]);
    for (me_i32 i = 0; i < count; i += 32, triples += 96) {
        const vec a = v_load(triples), b = v_load(triples + 32), c = v_load(triples + 64);
        for (int k = 0; k < 3; k++) {
            const vec two = _mm512_mask_blend_epi16(order.second[k], a, b);
            v_store(out[k] + i, _mm512_permutexvar_epi8(index[k], _mm512_mask_blend_epi16(order.third[k], two, c)));
        }
    }
}

/* 64 pixels: byte i of vector v is sample 64 v + i of the triples. */
struct together_order {
    me_u64 channel[3][3];
    me_u8 pixel[3][64];
    constexpr together_order() : channel(), pixel() {
        for (int v = 0; v < 3; v++) {
            for (int i = 0; i < 64; i++) {
                channel[v][(64 * v + i) % 3] |= 1ull << i;
                pixel[v][i] = (me_u8)((64 * v + i) / 3);
            }
        }
    }
};

static void together(const me_u8 *const row[3], me_i32 count, me_u8 *triples) {
    static constexpr together_order order;
    vec index[3];
    for (int v = 0; v < 3; v++) index[v] = v_load(order.pixel[v]);
    me_i32 x = 0;
    for (; x + 64 <= count; x += 64) {
        const vec a = v_load(row[0] + x), b = v_load(row[1] + x), c = v_load(row[2] + x);
        for (int v = 0; v < 3; v++) {
            const vec one = _mm512_permutexvar_epi8(index[v], a);
            const vec two = _mm512_mask_permutexvar_epi8(one, order.channel[v][1], index[v], b);
            v_store(triples + 3 * x + 64 * v, _mm512_mask_permutexvar_epi8(two, order.channel[v][2], index[v], c));
        }
    }
    const me_u8 *const rest[3] = {row[0] + x, row[1] + x, row[2] + x};
    together_loop(rest, count - x, triples + 3 * x);
}
