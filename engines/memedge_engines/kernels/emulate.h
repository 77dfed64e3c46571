/* device.h for a host compiler: the kernel's phases as loops over the threads of one block or, with ME_FIBERS, each thread
 * as a fiber that runs from barrier to barrier; device memory as a list of ranges that every access is checked against.
 * Included by emulate.cpp alone.
 */
#ifndef MEMEDGE_EMULATE_H
#define MEMEDGE_EMULATE_H

#include "pixels.h"

/* `size` bytes of device memory at `begin`, which lie at `data` here; `writable`: a kernel may write them. */
struct me_range {
    me_u64 begin, size;
    me_u8 *data;
    me_i32 writable;
};

/* The bytes of an access; a scratch word for one that is outside all ranges, misaligned or a forbidden write, which is
 * remembered. */
me_u8 *me_at(me_u64 address, me_i32 size, bool write);

struct me_index {
    int x, y, z;
};
extern me_index blockIdx;

#define __global__
#define __restrict__ __restrict
#define __launch_bounds__(threads, blocks)
#define ME_CALLED static
#ifdef ME_FIBERS
extern int me_thread;
void me_barrier();
#define ME_EACH_THREAD(t) if ([[maybe_unused]] const int t = me_thread; true)
#define ME_SYNC() me_barrier()
#define ME_OWN(type, name) type name
#define ME_MY(name, t) name
#else
extern int me_first_thread, me_thread_step;
#define ME_EACH_THREAD(t) for (int t = me_first_thread; t >= 0 && t < ME_THREADS; t += me_thread_step)
#define ME_SYNC()
#define ME_OWN(type, name) static type name[ME_THREADS]
#define ME_MY(name, t) name[t]
#endif
#define ME_SHARED(name, words) static me_u32 name[words]
#define ME_UNROLL
#define ME_UNROLL_2
#define ME_UNROLL_4
#define ME_ROLLED

ME_FN me_u32 me_read8(me_u64 address) { return *me_at(address, 1, false); }
ME_FN me_u32 me_read16(me_u64 address) { return *(const me_u16 *)me_at(address, 2, false); }
ME_FN me_u32 me_read32(me_u64 address) { return *(const me_u32 *)me_at(address, 4, false); }

ME_FN void me_write8(me_u64 address, me_u32 value) { *me_at(address, 1, true) = (me_u8)value; }
ME_FN void me_write16(me_u64 address, me_u32 value) { *(me_u16 *)me_at(address, 2, true) = (me_u16)value; }
ME_FN void me_write32(me_u64 address, me_u32 value) { *(me_u32 *)me_at(address, 4, true) = value; }

ME_FN void me_read_two(const me_u32 *from, me_u32 *a, me_u32 *b) {
    *a = from[0];
    *b = from[1];
}
ME_FN void me_write_two(me_u32 *to, me_u32 a, me_u32 b) {
    to[0] = a;
    to[1] = b;
}

/* As the PTX manual describes prmt (in its default mode), dp2a and cvt.pack. */
ME_FN me_u32 me_pick(me_u32 a, me_u32 b, me_u32 choice) {
    const me_u64 both = (me_u64)b << 32 | a;
    me_u32 out = 0;
    for (int i = 0; i < 4; i++) out |= (me_u32)(both >> 8 * (choice >> 4 * i & 7) & 255) << 8 * i;
    return out;
}
ME_FN me_u32 me_dot_low(me_u32 pair, me_u32 bytes, me_u32 sum) {
    return sum + (pair & 0xffff) * (bytes & 255) + (pair >> 16) * (bytes >> 8 & 255);
}
ME_FN me_u32 me_dot_high(me_u32 pair, me_u32 bytes, me_u32 sum) { return me_dot_low(pair, bytes >> 16, sum); }
ME_FN me_u32 me_signed(me_u32 couple) { return couple ^ 0x08000800u; }
ME_FN me_u32 me_pack(me_i32 a, me_i32 b, me_i32 c, me_i32 d) {
    return me_byte(a) | (me_u32)me_byte(b) << 8 | (me_u32)me_byte(c) << 16 | (me_u32)me_byte(d) << 24;
}

#endif
