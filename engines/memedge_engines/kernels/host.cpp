/* The CPU fast path: the loop nest around the row kernels, the choice of an instruction set, and the C interface that
 * preprocess/native.py calls. One picture at a time, in the caller's thread, in the caller's scratch memory; nothing is
 * allocated and nothing is kept between calls.
 *
 * Work goes down the picture result row by result row. Source rows become planar 8-bit levels once, in a ring that is as
 * long as the resize has taps, and only the rows and columns that the crop needs; packed RGB and full-range grey are read
 * where they lie. Then down, then across, then the row is placed where the rotation wants it.
 */
#include "host.h"

#if defined(__x86_64__) || defined(_M_X64)
#define ME_X86 1
#include <immintrin.h>
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#endif
#elif defined(__aarch64__) || defined(_M_ARM64)
#define ME_ARM64 1
#include <arm_neon.h>
#endif

#if defined(__clang__)
#define ME_PRAGMA(text) _Pragma(#text)
#define ME_INSTRUCTIONS(set) ME_PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define ME_INSTRUCTIONS_END _Pragma("clang attribute pop")
#elif defined(__GNUC__)
#define ME_PRAGMA(text) _Pragma(#text)
#define ME_INSTRUCTIONS(set) _Pragma("GCC push_options") ME_PRAGMA(GCC target(set))
#define ME_INSTRUCTIONS_END _Pragma("GCC pop_options")
#else /* MSVC takes every intrinsic everywhere. */
#define ME_INSTRUCTIONS(set)
#define ME_INSTRUCTIONS_END
#endif

#define ME_ROWS(name, bytes, down, across, color, apart, together) \
    {name, bytes, down, add, finish, across, narrow, color, stretch, gray, blend, blend2, apart, apart3, apart2, together}

namespace plain {
#include "host_loops.h"
const me_rows rows = ME_ROWS("plain", 16, down_loop, across_loop, color_loop, apart_loop, together_loop);
}  // namespace plain

#if defined(ME_X86)
ME_INSTRUCTIONS("avx2")
namespace avx2 {
#include "host_loops.h"
#include "host_avx2.h"
#include "host_color.h"
const me_rows rows = ME_ROWS("avx2", 32, down, across, color, apart, together);
}  // namespace avx2
ME_INSTRUCTIONS_END

ME_INSTRUCTIONS("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni")
namespace avx512 {
#include "host_loops.h"
#include "host_avx512.h"
#include "host_color.h"
const me_rows rows = ME_ROWS("avx512", 32, down, avx2::across, color, apart, together);
}  // namespace avx512
ME_INSTRUCTIONS_END
#elif defined(ME_ARM64)
namespace neon {
#include "host_loops.h"
#include "host_neon.h"
#include "host_color.h"
const me_rows rows = ME_ROWS("neon", 16, down, across, color, apart, together);
}  // namespace neon
#endif

#include "host_nest.h"

namespace {

#if defined(ME_X86) && defined(_MSC_VER) && !defined(__clang__)
/* Bits of CPUID leaf 7, as far as the system saves the registers that they need. */
bool supports(bool wide) {
    int leaf[4];
    __cpuid(leaf, 1);
    if (!(leaf[2] & 1 << 27)) return false;
    const unsigned long long saved = _xgetbv(0), needed = wide ? 0xe6 : 0x6;
    if ((saved & needed) != needed) return false;
    __cpuidex(leaf, 7, 0);
    if (!wide) return leaf[1] & 1 << 5;
    const unsigned ebx = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, ecx = 1u << 1 | 1u << 11;
    return ((unsigned)leaf[1] & ebx) == ebx && ((unsigned)leaf[2] & ecx) == ecx;
}
#elif defined(ME_X86)
bool supports(bool wide) {
    __builtin_cpu_init();
    if (!wide) return __builtin_cpu_supports("avx2");
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}
#endif

/* The kernels that this processor runs, the portable ones first, the fastest last. */
int usable(const me_rows *found[3]) {
    int count = 0;
    found[count++] = &plain::rows;
#if defined(ME_X86)
    if (supports(false)) found[count++] = &avx2::rows;
    if (supports(true)) found[count++] = &avx512::rows;
#elif defined(ME_ARM64)
    found[count++] = &neon::rows;
#endif
    return count;
}

}  // namespace

#if defined(_WIN32)
#define ME_EXPORT extern "C" __declspec(dllexport)
#else
#define ME_EXPORT extern "C" __attribute__((visibility("default")))
#endif

/* Changes with the layout of me_job and with the meaning of what is exported; preprocess/native.py has the same number. */
ME_EXPORT int memedge_host_version(void) { return 1000 * 1 + (int)sizeof(me_job); }

/* Name of instruction set `number`, counted from the portable one; null when this processor has no more. */
ME_EXPORT const char *memedge_host_instructions(int number) {
    const me_rows *found[3];
    return number >= 0 && number < usable(found) ? found[number]->name : nullptr;
}

/* Bytes of scratch memory that the job needs; 0 for a job that is not valid. */
ME_EXPORT me_u64 memedge_host_scratch(const me_job *job) { return scratch_bytes(*job); }

/* Carry out the job with instruction set `number`. A job without a table gives the picture, uint8 [h][w][channels], in
 * place of the tensor. 0: done; 1: the job is not valid; 2: too little scratch memory; 3: no such instruction set. */
ME_EXPORT int memedge_host_run(const me_job *job, int number, void *scratch, me_u64 size) {
    const me_rows *found[3];
    if (number < 0 || number >= usable(found)) return 3;
    plan p;
    if (!make_plan(*job, &p)) return 1;
    if (!scratch || size < scratch_bytes(*job)) return 2;
    nest(*job, p, *found[number], (me_u8 *)scratch).run();
    return 0;
}
