/* What the preprocessing kernel needs of the machine: threads, shared memory, reads, packed instructions. This is CUDA's;
 * emulate.h has the same for a host compiler, so that the kernel's own loops run and are checked without a GPU.
 *
 * The kernel is written in phases. Between them, all control flow is the same for every thread of a block:
 *   ME_EACH_THREAD(t) { ... }   the block's threads, t from 0 to ME_THREADS - 1; on the host a loop over them;
 *   ME_SYNC()                   all threads have finished the phase;
 *   ME_OWN(type, name)          a variable of each thread that lives across phases; ME_MY(name, t) is thread t's.
 */
#ifndef MEMEDGE_DEVICE_H
#define MEMEDGE_DEVICE_H

#include "pixels.h"

#define ME_CALLED static __device__ __noinline__ /* kept out of line: called from many places, or large */
#define ME_EACH_THREAD(t) if ([[maybe_unused]] const int t = (int)threadIdx.x; true)
#define ME_SYNC() __syncthreads()
#define ME_OWN(type, name) type name
#define ME_MY(name, t) name
#define ME_SHARED(name, words) __shared__ __align__(8) me_u32 name[words]
#define ME_UNROLL _Pragma("unroll")
#define ME_UNROLL_2 _Pragma("unroll 2")
#define ME_UNROLL_4 _Pragma("unroll 4")
#define ME_ROLLED _Pragma("unroll 1")

/* Reads of device memory that nobody writes during the launch. */
ME_FN me_u32 me_read8(me_u64 address) { return __ldg((const me_u8 *)address); }
ME_FN me_u32 me_read16(me_u64 address) { return __ldg((const me_u16 *)address); }
ME_FN me_u32 me_read32(me_u64 address) { return __ldg((const me_u32 *)address); }

ME_FN void me_write8(me_u64 address, me_u32 value) { *(me_u8 *)address = (me_u8)value; }
ME_FN void me_write16(me_u64 address, me_u32 value) { *(me_u16 *)address = (me_u16)value; }
ME_FN void me_write32(me_u64 address, me_u32 value) { *(me_u32 *)address = value; }

/* Two words of shared memory, at a multiple of eight bytes. */
ME_FN void me_read_two(const me_u32 *from, me_u32 *a, me_u32 *b) {
    const uint2 both = *(const uint2 *)from;
    *a = both.x;
    *b = both.y;
}
ME_FN void me_write_two(me_u32 *to, me_u32 a, me_u32 b) { *(uint2 *)to = make_uint2(a, b); }

/* Four bytes out of the eight of b:a; each of the lowest four digits of `choice` names one, the lowest byte first. */
ME_FN me_u32 me_pick(me_u32 a, me_u32 b, me_u32 choice) { return __byte_perm(a, b, choice); }

/* sum + low half of `pair` * byte 0 + high half * byte 1 (me_dot_low), or bytes 2 and 3 (me_dot_high). */
ME_FN me_u32 me_dot_low(me_u32 pair, me_u32 bytes, me_u32 sum) {
    asm("dp2a.lo.u32.u32 %0, %1, %2, %0;" : "+r"(sum) : "r"(pair), "r"(bytes));
    return sum;
}
ME_FN me_u32 me_dot_high(me_u32 pair, me_u32 bytes, me_u32 sum) {
    asm("dp2a.hi.u32.u32 %0, %1, %2, %0;" : "+r"(sum) : "r"(pair), "r"(bytes));
    return sum;
}

/* Both halves of a chroma couple minus 2048, in twelve bits. (In assembler because the compiler would do it after taking the
 * halves apart, twice.) */
ME_FN me_u32 me_signed(me_u32 couple) {
    me_u32 out;
    asm("xor.b32 %0, %1, 0x08000800;" : "=r"(out) : "r"(couple));
    return out;
}

/* Four levels clamped to 0..255 (me_byte), the first in the lowest byte. */
ME_FN me_u32 me_pack(me_i32 a, me_i32 b, me_i32 c, me_i32 d) {
    me_u32 high, all;
    asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, 0;" : "=r"(high) : "r"(d), "r"(c));
    asm("cvt.pack.sat.u8.s32.b32 %0, %1, %2, %3;" : "=r"(all) : "r"(b), "r"(a), "r"(high));
    return all;
}

#endif
