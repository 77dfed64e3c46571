/* Row kernels of AVX2, and its vector operations for host_color.h. */

typedef __m256i vec, wide, v_couples, v_factors;
enum { V_BYTES = 32 };

static inline vec v_load(const void *from) { return _mm256_loadu_si256((const __m256i *)from); }
static inline void v_store(void *to, vec a) { _mm256_storeu_si256((__m256i *)to, a); }
static inline vec v_set16(me_i32 a) { return _mm256_set1_epi16((short)a); }
static inline vec v_set32(me_i32 a) { return _mm256_set1_epi32(a); }
static inline vec v_and(vec a, vec b) { return _mm256_and_si256(a, b); }
static inline vec v_add16(vec a, vec b) { return _mm256_add_epi16(a, b); }
static inline vec v_add32(vec a, vec b) { return _mm256_add_epi32(a, b); }
static inline vec v_upper16(vec a, vec b) { return _mm256_mulhi_epi16(a, b); }
template <int N> static inline vec v_left16(vec a) { return _mm256_slli_epi16(a, N); }
template <int N> static inline vec v_right16(vec a) { return _mm256_srli_epi16(a, N); }
template <int N> static inline vec v_right32(vec a) { return _mm256_srai_epi32(a, N); }
static inline vec v_low8(vec a, vec b) { return _mm256_unpacklo_epi8(a, b); }
static inline vec v_high8(vec a, vec b) { return _mm256_unpackhi_epi8(a, b); }
static inline vec v_low16(vec a, vec b) { return _mm256_unpacklo_epi16(a, b); }
static inline vec v_high16(vec a, vec b) { return _mm256_unpackhi_epi16(a, b); }
static inline vec v_pack32(vec a, vec b) { return _mm256_packs_epi32(a, b); }

/* The sum of the products of both halves of each 32-bit element; the same added to `sum`. */
static inline vec v_pairs(vec a, vec b) { return _mm256_madd_epi16(a, b); }
static inline vec v_dot(vec sum, vec a, vec b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

/* A pair of 16-bit factors in every 32-bit element. */
static inline vec v_pair(me_i32 low, me_i32 high) {
    return v_set32((me_i32)((me_u32)(low & 0xffff) | (me_u32)high << 16));
}

/* Clamped to bytes, one of `even`, one of `odd` in turn. */
static inline vec v_weave(vec even, vec odd) {
    const vec order = _mm256_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15, 0, 8, 1, 9, 2, 10, 3, 11, 4,
                                       12, 5, 13, 6, 14, 7, 15);
    return _mm256_shuffle_epi8(_mm256_packus_epi16(even, odd), order);
}

/* Lane 0 of both, then lane 1 of both. */
static inline void v_store_halves(me_i16 *to, vec low, vec high) {
    v_store(to, _mm256_permute2x128_si256(low, high, 0x20));
    v_store(to + 16, _mm256_permute2x128_si256(low, high, 0x31));
}

static inline vec v_join(const me_i16 *low, const me_i16 *high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)low)),
                                   _mm_loadu_si128((const __m128i *)high), 1);
}

/* SIZE samples at each of the positions. */
template <int SIZE> static inline vec v_gather(const me_i16 *row, const me_i32 *first) {
    if (SIZE == 16) return v_load(row + first[0]);
    return v_join(row + first[0], row + first[1]);
}

static inline vec v_sums4(const vec sum[4]) {
    return _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]), _mm256_hadd_epi32(sum[2], sum[3]));
}

/* The sum of every unit, in the order of results. */
template <int SIZE> static inline vec v_sums(const vec *sum) {
    if (SIZE == 8) return v_sums4(sum);
    const vec a = v_sums4(sum), b = v_sums4(sum + 4);
    return v_add32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

static inline void v_store_levels(me_u8 *to, vec a) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(words, words));
}

/* Two rows at a time: their bytes side by side as 16-bit numbers, one multiply-add for both. */
static inline void two_rows(const me_u8 *a, const me_u8 *b, vec weights, vec sum[4]) {
    const vec zero = v_set32(0), upper = v_load(a), lower = v_load(b);
    const vec first = v_low8(upper, lower), second = v_high8(upper, lower);
    sum[0] = v_dot(sum[0], v_low8(first, zero), weights);
    sum[1] = v_dot(sum[1], v_high8(first, zero), weights);
    sum[2] = v_dot(sum[2], v_low8(second, zero), weights);
    sum[3] = v_dot(sum[3], v_high8(second, zero), weights);
}

static void down(const me_u8 *const *row, const me_i16 *weight, me_i32 taps, me_i32 count, me_i16 *between) {
    if (taps == 1 || count < V_BYTES) {
        down_loop(row, weight, taps, count, between);
        return;
    }
    vec weights[ME_MOST_ROWS / 2];
    for (me_i32 t = 0; t < taps; t += 2) weights[t / 2] = v_pair(weight[t], t + 1 < taps ? weight[t + 1] : 0);
    /* The last step ends with the row and does part of the one before it again. */
    for (me_i32 next = 0; next < count; next += V_BYTES) {
        const me_i32 x = next < count - V_BYTES ? next : count - V_BYTES;
        vec sum[4];
        for (int k = 0; k < 4; k++) sum[k] = v_set32(1 << (ME_WEIGHT_BITS - ME_BETWEEN_BITS - 1));
        me_i32 t = 0;
        for (; t + 1 < taps; t += 2) two_rows(row[t] + x, row[t + 1] + x, weights[t / 2], sum);
        if (t < taps) two_rows(row[t] + x, row[t] + x, weights[t / 2], sum);
        for (int k = 0; k < 4; k++) sum[k] = v_right32<ME_WEIGHT_BITS - ME_BETWEEN_BITS>(sum[k]);
        v_store_halves(between + x, v_pack32(sum[0], sum[1]), v_pack32(sum[2], sum[3]));
    }
}

/* UNITS 0: any number of them. */
template <int SIZE, int UNITS>
static inline void across_units(const me_i16 *between, const me_taps *taps, me_u8 *level) {
    enum { REGISTERS = SIZE / 2, LANES = V_BYTES / (2 * SIZE) };
    const vec half = v_set32(1 << (ME_WEIGHT_BITS + ME_BETWEEN_BITS - 1));
    const me_i32 units = UNITS ? UNITS : taps->units;
    const me_i16 *weight = taps->weight;
    const me_i32 *first = taps->first;
    for (me_i32 block = 0; block < taps->blocks; block++, level += REGISTERS * LANES, first += REGISTERS * LANES) {
        vec sum[REGISTERS];
        for (int k = 0; k < REGISTERS; k++, weight += V_BYTES / 2) {
            sum[k] = v_pairs(v_gather<SIZE>(between, first + LANES * k), v_load(weight));
        }
        for (me_i32 unit = 1; unit < units; unit++) {
            for (int k = 0; k < REGISTERS; k++, weight += V_BYTES / 2) {
                sum[k] = v_dot(sum[k], v_gather<SIZE>(between + SIZE * unit, first + LANES * k), v_load(weight));
            }
        }
        v_store_levels(level, v_right32<ME_WEIGHT_BITS + ME_BETWEEN_BITS>(v_add32(v_sums<SIZE>(sum), half)));
    }
}

static void across(const me_i16 *between, const me_taps *taps, me_u8 *level) {
    if (taps->size == 8) {
        across_units<8, 1>(between, taps, level);
    } else if (taps->units == 1) {
        across_units<16, 1>(between, taps, level);
    } else {
        across_units<16, 0>(between, taps, level);
    }
}

/* Sample k of every triple lies at another place of each of three vectors: two blends collect them, a shuffle orders them. */
static void apart(const me_i16 *triples, me_i32 count, me_i16 *const out[3]) {
#define ME_WORDS(a, b, c, d, e, f, g, h) \
    2 * a, 2 * a + 1, 2 * b, 2 * b + 1, 2 * c, 2 * c + 1, 2 * d, 2 * d + 1, 2 * e, 2 * e + 1, 2 * f, 2 * f + 1, 2 * g, \
        2 * g + 1, 2 * h, 2 * h + 1
    const vec order[3] = {
        _mm256_setr_epi8(ME_WORDS(0, 3, 6, 1, 4, 7, 2, 5), ME_WORDS(0, 3, 6, 1, 4, 7, 2, 5)),
        _mm256_setr_epi8(ME_WORDS(1, 4, 7, 2, 5, 0, 3, 6), ME_WORDS(1, 4, 7, 2, 5, 0, 3, 6)),
        _mm256_setr_epi8(ME_WORDS(2, 5, 0, 3, 6, 1, 4, 7), ME_WORDS(2, 5, 0, 3, 6, 1, 4, 7)),
    };
#undef ME_WORDS
    for (me_i32 i = 0; i < count; i += 16, triples += 48) {
        const vec a = v_join(triples, triples + 24), b = v_join(triples + 8, triples + 32);
        const vec c = v_join(triples + 16, triples + 40);
        const vec mixed[3] = {
            _mm256_blend_epi16(_mm256_blend_epi16(a, b, 0x92), c, 0x24),
            _mm256_blend_epi16(_mm256_blend_epi16(a, b, 0x24), c, 0x49),
            _mm256_blend_epi16(_mm256_blend_epi16(a, b, 0x49), c, 0x92),
        };
        for (int k = 0; k < 3; k++) v_store(out[k] + i, _mm256_shuffle_epi8(mixed[k], order[k]));
    }
}

/* Sixteen pixels: byte i of output vector v is sample (16 v + i) of the triples. */
static void together(const me_u8 *const row[3], me_i32 count, me_u8 *triples) {
    __m128i order[3][3];
    for (int v = 0; v < 3; v++) {
        for (int c = 0; c < 3; c++) {
            me_u8 byte[16];
            for (int i = 0; i < 16; i++) byte[i] = (me_u8)((16 * v + i) % 3 == c ? (16 * v + i) / 3 : 0x80);
            order[v][c] = _mm_loadu_si128((const __m128i *)byte);
        }
    }
    me_i32 x = 0;
    for (; x + 16 <= count; x += 16) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(row[0] + x));
        const __m128i b = _mm_loadu_si128((const __m128i *)(row[1] + x));
        const __m128i c = _mm_loadu_si128((const __m128i *)(row[2] + x));
        for (int v = 0; v < 3; v++) {
            const __m128i mixed = _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(a, order[v][0]), _mm_shuffle_epi8(b, order[v][1])),
                                               _mm_shuffle_epi8(c, order[v][2]));
            _mm_storeu_si128((__m128i *)(triples + 3 * x + 16 * v), mixed);
        }
    }
    const me_u8 *const rest[3] = {row[0] + x, row[1] + x, row[2] + x};
    together_loop(rest, count - x, triples + 3 * x);
}
