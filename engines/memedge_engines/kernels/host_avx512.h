/* Vector operations of AVX-512 with VNNI and VBMI for host_vector.h, and what is best written for these registers alone. */

typedef __m512i vec;
enum { V_BYTES = 64, V_LANES = 4 };

static inline vec v_load(const void *from) { return _mm512_loadu_si512(from); }
static inline void v_store(void *to, vec a) { _mm512_storeu_si512(to, a); }
static inline vec v_set16(me_i32 a) { return _mm512_set1_epi16((short)a); }
static inline vec v_set32(me_i32 a) { return _mm512_set1_epi32(a); }
static inline vec v_and(vec a, vec b) { return _mm512_and_si512(a, b); }
static inline vec v_add16(vec a, vec b) { return _mm512_add_epi16(a, b); }
static inline vec v_add32(vec a, vec b) { return _mm512_add_epi32(a, b); }
static inline vec v_times16(vec a, vec b) { return _mm512_mullo_epi16(a, b); }
template <int N> static inline vec v_left16(vec a) { return _mm512_slli_epi16(a, N); }
template <int N> static inline vec v_right16(vec a) { return _mm512_srli_epi16(a, N); }
template <int N> static inline vec v_right32(vec a) { return _mm512_srai_epi32(a, N); }
static inline vec v_low8(vec a, vec b) { return _mm512_unpacklo_epi8(a, b); }
static inline vec v_high8(vec a, vec b) { return _mm512_unpackhi_epi8(a, b); }
static inline vec v_low16(vec a, vec b) { return _mm512_unpacklo_epi16(a, b); }
static inline vec v_high16(vec a, vec b) { return _mm512_unpackhi_epi16(a, b); }
static inline vec v_pack32(vec a, vec b) { return _mm512_packs_epi32(a, b); }
static inline vec v_dot(vec sum, vec a, vec b) { return _mm512_dpwssd_epi32(sum, a, b); }

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

/* Eight samples at first[4 * lane] in each lane. */
static inline vec v_gather(const me_i16 *row, const me_i32 *first) {
    const __m128i a = _mm_loadu_si128((const __m128i *)(row + first[0]));
    const __m128i b = _mm_loadu_si128((const __m128i *)(row + first[4]));
    const __m128i c = _mm_loadu_si128((const __m128i *)(row + first[8]));
    const __m128i d = _mm_loadu_si128((const __m128i *)(row + first[12]));
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* Element k of each lane: the sum of that lane of sum[k]. */
static inline vec v_sums(const vec sum[4]) {
    const vec a = v_add32(_mm512_unpacklo_epi32(sum[0], sum[1]), _mm512_unpackhi_epi32(sum[0], sum[1]));
    const vec b = v_add32(_mm512_unpacklo_epi32(sum[2], sum[3]), _mm512_unpackhi_epi32(sum[2], sum[3]));
    return v_add32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

static inline void v_store_levels(me_u8 *to, vec a) { _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(a)); }

/* Four rows at a time, bytes times bytes: a weight is 128 * high + low with both below 128, and
 * me_between(128 * sum of high parts + sum of low parts) = sum of high parts + me_between(sum of low parts). A weight of 1,
 * which has no such parts, stands alone: then there is one row. */
#define V_OWN_DOWN
struct quads {
    const me_u8 *row[ME_MOST_ROWS + 3];
    me_i32 low[ME_MOST_ROWS / 4], high[ME_MOST_ROWS / 4];
    me_i32 count;
};

static inline void down_step(const quads &k, me_i32 x, __mmask64 mask, vec result[2]) {
    vec low[4], high[4];
    for (int i = 0; i < 4; i++) {
        low[i] = v_set32(1 << (ME_WEIGHT_BITS - ME_BETWEEN_BITS - 1));
        high[i] = v_set32(0);
    }
    const me_u8 *const *row = k.row;
    for (me_i32 q = 0; q < k.count; q++, row += 4) {
        const vec a = _mm512_maskz_loadu_epi8(mask, row[0] + x), b = _mm512_maskz_loadu_epi8(mask, row[1] + x);
        const vec c = _mm512_maskz_loadu_epi8(mask, row[2] + x), d = _mm512_maskz_loadu_epi8(mask, row[3] + x);
        const vec ab[2] = {v_low8(a, b), v_high8(a, b)}, cd[2] = {v_low8(c, d), v_high8(c, d)};
        const vec low_part = v_set32(k.low[q]), high_part = v_set32(k.high[q]);
        for (int i = 0; i < 4; i++) {
            const vec four = i & 1 ? v_high16(ab[i / 2], cd[i / 2]) : v_low16(ab[i / 2], cd[i / 2]);
            low[i] = _mm512_dpbusd_epi32(low[i], four, low_part);
            high[i] = _mm512_dpbusd_epi32(high[i], four, high_part);
        }
    }
    for (int i = 0; i < 4; i++) low[i] = v_add32(high[i], v_right32<ME_WEIGHT_BITS - ME_BETWEEN_BITS>(low[i]));
    result[0] = v_pack32(low[0], low[1]);
    result[1] = v_pack32(low[2], low[3]);
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
    vec result[2];
    me_i32 x = 0;
    for (; x + V_BYTES <= count; x += V_BYTES) {
        down_step(k, x, ~(__mmask64)0, result);
        v_store_halves(between + x, result[0], result[1]);
    }
    if (x < count) {
        /* Rows of a frame are read exactly; `between` is scratch, which has room for whole vectors. */
        down_step(k, x, ((__mmask64)1 << (count - x)) - 1, result);
        v_store_halves(between + x, result[0], result[1]);
    }
}

/* 32 triples: two permutations collect sample k of each out of three vectors. */
static void apart(const me_i16 *triples, me_i32 count, me_i16 *const out[3]) {
    vec first[3], second[3];
    __mmask32 third[3];
    for (int k = 0; k < 3; k++) {
        me_i16 from_two[32], from_third[32];
        third[k] = 0;
        for (int i = 0; i < 32; i++) {
            const int at = 3 * i + k;
            from_two[i] = (me_i16)(at < 64 ? at : 0);
            from_third[i] = (me_i16)(at < 64 ? 0 : at - 64);
            if (at >= 64) third[k] |= (__mmask32)1 << i;
        }
        first[k] = v_load(from_two);
        second[k] = v_load(from_third);
    }
    for (me_i32 i = 0; i < count; i += 32, triples += 96) {
        const vec a = v_load(triples), b = v_load(triples + 32), c = v_load(triples + 64);
        for (int k = 0; k < 3; k++) {
            const vec two = _mm512_permutex2var_epi16(a, first[k], b);
            v_store(out[k] + i, _mm512_mask_permutexvar_epi16(two, third[k], second[k], c));
        }
    }
}

/* 64 pixels: byte i of output vector v is sample 64 v + i of the triples; two permutations collect it. */
static void together(const me_u8 *const row[3], me_i32 count, me_u8 *triples) {
    vec two[3], last[3];
    __mmask64 from_last[3];
    for (int v = 0; v < 3; v++) {
        me_u8 index[64], third[64];
        from_last[v] = 0;
        for (int i = 0; i < 64; i++) {
            const int pixel = (64 * v + i) / 3, channel = (64 * v + i) % 3;
            index[i] = (me_u8)(channel == 1 ? 64 + pixel : pixel);
            third[i] = (me_u8)pixel;
            if (channel == 2) from_last[v] |= (__mmask64)1 << i;
        }
        two[v] = v_load(index);
        last[v] = v_load(third);
    }
    me_i32 x = 0;
    for (; x + 64 <= count; x += 64) {
        const vec a = v_load(row[0] + x), b = v_load(row[1] + x), c = v_load(row[2] + x);
        for (int v = 0; v < 3; v++) {
            const vec mixed = _mm512_permutex2var_epi8(a, two[v], b);
            v_store(triples + 3 * x + 64 * v, _mm512_mask_permutexvar_epi8(mixed, from_last[v], last[v], c));
        }
    }
    const me_u8 *const rest[3] = {row[0] + x, row[1] + x, row[2] + x};
    together_loop(rest, count - x, triples + 3 * x);
}
