/* A libcuda.so.1 that simulates one device in host memory, so that the real providers run without a GPU: what they pass
 * (addresses, arrays of kernel arguments, flags, options, contexts of threads) is read the way the driver reads it.
 *
 * Prototypes follow cuda.h of CUDA 12 and 13. Device addresses carry a tag, so that the two kinds of memory cannot be
 * mixed up. Work is done at once; during capture it is recorded. twin_live() tells what was never given back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef uint64_t CUdeviceptr;
enum { INVALID = 1, MEMORY = 2, UNINITIALISED = 3, BAD_DEVICE = 101, BAD_CONTEXT = 201, BAD_HANDLE = 400, NOT_FOUND = 500 };

#define TAG 0x2A00000000000000ull
#define CONTEXT ((void *)0xC0DE)
#define LIMIT (1ull << 34)

typedef struct Op { struct Op *next; int kernel; void *target; const void *source; size_t size; unsigned char values[64]; } Op;
typedef struct { int magic; Op *first, *last; } Graph;
typedef struct { int magic, capturing, spoilt; Graph *graph; } Stream;
typedef struct { int magic, recorded, timing; } Event;
typedef struct { int magic; } Module;
enum { STREAM = 0x57, EVENT = 0xE7, MODULE = 0x30, FUNCTION = 0xF0, GRAPH = 0x64, EXECUTABLE = 0xEC };

static atomic_int live, retained, initialised;
static _Thread_local int depth;
static _Thread_local Stream *capturing_here;

int twin_live(void) { return live; }
int twin_retained(void) { return retained; }
int twin_depth(void) { return depth; }

static int version(void) { const char *v = getenv("TWIN_VERSION"); return v ? atoi(v) : 12060; }

#define NEED_INIT if (!initialised) return UNINITIALISED
#define NEED_CONTEXT do { NEED_INIT; if (!depth || !retained) return BAD_CONTEXT; } while (0)
#define NEED(handle, kind) do { if (!(handle) || *(int *)(handle) != (kind)) return BAD_HANDLE; } while (0)
#define SAFE do { if (capturing_here) { capturing_here->spoilt = 1; return 900; } } while (0)

static void *fresh(int magic, size_t size) { int *made = calloc(1, size); *made = magic; live++; return made; }
static void gone(void *handle) { *(int *)handle = 0; live--; }  /* kept, so that a second use is seen */

static const struct { int code; const char *name, *text; } TEXTS[] = {
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"}, {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"}, {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}, {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}, {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static CUresult told(int code, const char **out, int name) {
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++)
        if (TEXTS[i].code == code) { *out = name ? TEXTS[i].name : TEXTS[i].text; return 0; }
    *out = NULL;
    return INVALID;
}
CUresult cuGetErrorName(int code, const char **out) { return told(code, out, 1); }
CUresult cuGetErrorString(int code, const char **out) { return told(code, out, 0); }

CUresult cuGetProcAddress_v2(const char *symbol, void **out, int wanted, uint64_t flags, int *status) {
    static const char *endings[] = {"_v2", "WithFlags", ""};
    char name[128];
    (void)wanted, (void)flags;
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s%s", symbol, endings[i]);
        if ((*out = dlsym(RTLD_DEFAULT, name)) || (*out = dlsym(dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD), name))) {
            if (status) *status = 0;
            return 0;
        }
    }
    if (status) *status = 1;
    return NOT_FOUND;
}

CUresult cuInit(unsigned flags) {
    const char *code = getenv("TWIN_INIT");
    if (flags) return INVALID;
    if (code) return atoi(code);
    initialised = 1;
    return 0;
}
CUresult cuDriverGetVersion(int *out) { *out = version(); return 0; }
CUresult cuDeviceGetCount(int *out) { NEED_INIT; *out = getenv("TWIN_EMPTY") ? 0 : 1; return 0; }
CUresult cuDeviceGet(int *out, int ordinal) { NEED_INIT; if (ordinal) return BAD_DEVICE; *out = 0; return 0; }
CUresult cuDeviceGetName(char *out, int length, int device) { (void)device; snprintf(out, length, "Twin device"); return 0; }
CUresult cuDeviceGetUuid(void *out, int device) { (void)device; memset(out, 0xAB, 16); return 0; }
CUresult cuDeviceGetUuid_v2(void *out, int device) { return cuDeviceGetUuid(out, device); }
CUresult cuDeviceTotalMem_v2(size_t *out, int device) { (void)device; *out = LIMIT; return 0; }
CUresult cuDeviceComputeCapability(int *major, int *minor, int device) { (void)device; *major = 8; *minor = 7; return 0; }
CUresult cuDeviceGetAttribute(int *out, int attribute, int device) {
    (void)device;
    *out = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 16 ? 8 : attribute == 18 || attribute == 19;
    return 0;
}
CUresult cuDevicePrimaryCtxRetain(void **out, int device) { NEED_INIT; (void)device; retained++; *out = CONTEXT; return 0; }
CUresult cuDevicePrimaryCtxRelease_v2(int device) { (void)device; if (!retained) return BAD_CONTEXT; retained--; return 0; }
CUresult cuCtxPushCurrent_v2(void *context) { if (context != CONTEXT) return BAD_CONTEXT; depth++; return 0; }
CUresult cuCtxPopCurrent_v2(void **out) { if (!depth) return BAD_CONTEXT; depth--; *out = CONTEXT; return 0; }
CUresult cuMemGetInfo_v2(size_t *available, size_t *total) { NEED_CONTEXT; *available = LIMIT / 2; *total = LIMIT; return 0; }

/* Streams and events */

CUresult cuStreamCreate(void **out, unsigned flags) {
    NEED_CONTEXT;
    if (flags != 1) return INVALID; /* only non-blocking ones are wanted */
    *out = fresh(STREAM, sizeof(Stream));
    return 0;
}
CUresult cuStreamDestroy_v2(void *s) { NEED_CONTEXT; NEED(s, STREAM); gone(s); return 0; }
CUresult cuStreamSynchronize(void *s) {
    NEED_CONTEXT; NEED(s, STREAM);
    if (((Stream *)s)->capturing) { ((Stream *)s)->spoilt = 1; return 900; }
    return 0;
}
CUresult cuStreamWaitEvent(void *s, void *e, unsigned flags) { NEED_CONTEXT; NEED(s, STREAM); NEED(e, EVENT); return flags; }
CUresult cuEventCreate(void **out, unsigned flags) {
    NEED_CONTEXT;
    if (flags & ~3u) return INVALID;
    *out = fresh(EVENT, sizeof(Event));
    ((Event *)*out)->timing = !(flags & 2);
    return 0;
}
CUresult cuEventDestroy_v2(void *e) { NEED_CONTEXT; NEED(e, EVENT); gone(e); return 0; }
CUresult cuEventRecord(void *e, void *s) { NEED_CONTEXT; NEED(e, EVENT); NEED(s, STREAM); ((Event *)e)->recorded = 1; return 0; }
CUresult cuEventQuery(void *e) {
    NEED_CONTEXT; NEED(e, EVENT); SAFE;
    return getenv("TWIN_NEVER_READY") ? 600 : 0;
}
CUresult cuEventSynchronize(void *e) { NEED_CONTEXT; NEED(e, EVENT); SAFE; return 0; }
CUresult cuEventElapsedTime_v2(float *out, void *a, void *b) {
    NEED_CONTEXT; NEED(a, EVENT); NEED(b, EVENT);
    if (!((Event *)a)->timing || !((Event *)b)->timing || !((Event *)a)->recorded) return BAD_HANDLE;
    *out = 0.25f;
    return 0;
}

/* Memory */

static void *host(CUdeviceptr address) { return (void *)(uintptr_t)(address & ~TAG); }
static int tagged(CUdeviceptr address) { return (address & TAG) == TAG; }

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t size) {
    void *made;
    NEED_CONTEXT; SAFE;
    if (!size) return INVALID;
    if (size > LIMIT) return MEMORY;
    if (posix_memalign(&made, 256, size)) return MEMORY;
    live++;
    *out = (uintptr_t)made | TAG;
    return 0;
}
CUresult cuMemFree_v2(CUdeviceptr address) { NEED_CONTEXT; if (!tagged(address)) return INVALID; free(host(address)); live--; return 0; }
CUresult cuMemHostAlloc(void **out, size_t size, unsigned flags) {
    NEED_CONTEXT; SAFE;
    if (!(flags & 1) || flags & ~3u || size > LIMIT) return size > LIMIT ? MEMORY : INVALID;
    if (posix_memalign(out, 4096, size)) return MEMORY;
    live++;
    return 0;
}
CUresult cuMemFreeHost(void *address) { NEED_CONTEXT; if (tagged((uintptr_t)address)) return INVALID; free(address); live--; return 0; }
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *out, void *address, unsigned flags) {
    NEED_CONTEXT;
    *out = (uintptr_t)address | TAG;
    return flags ? INVALID : 0;
}

static void perform(const Op *op) {
    if (!op->kernel) { memmove(op->target, op->source, op->size); return; }
    uint64_t data; int32_t count; float factor;
    memcpy(&data, op->values, 8); memcpy(&count, op->values + 8, 4); memcpy(&factor, op->values + 12, 4);
    for (int i = 0; i < count; i++) ((float *)host(data))[i] *= factor;
}
static CUresult queue(void *s, Op op) {
    NEED_CONTEXT; NEED(s, STREAM);
    Stream *stream = s;
    if (!stream->capturing) { perform(&op); return 0; }
    Op *kept = malloc(sizeof op);
    *kept = op, kept->next = NULL;
    if (stream->graph->last) stream->graph->last->next = kept; else stream->graph->first = kept;
    stream->graph->last = kept;
    return 0;
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, void *s) {
    if (!tagged(to) || tagged((uintptr_t)from)) return INVALID;
    return queue(s, (Op){.target = host(to), .source = from, .size = size});
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, void *s) {
    if (tagged((uintptr_t)to) || !tagged(from)) return INVALID;
    return queue(s, (Op){.target = to, .source = host(from), .size = size});
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, void *s) {
    if (!tagged(to) || !tagged(from)) return INVALID;
    return queue(s, (Op){.target = host(to), .source = host(from), .size = size});
}

/* Modules: PTX is text, ended by a zero; the one kernel is the one of the conformance test. */

CUresult cuModuleLoadDataEx(void **out, const void *image, unsigned count, const int *options, void **values) {
    NEED_CONTEXT; SAFE;
    const char *text = image;
    int failed = strstr(text, ".version 9") ? 222 : strstr(text, ".version") && strstr(text, ".target") ? 0 : 218;
    for (unsigned i = 0; failed && i < count; i++) /* 5: CU_JIT_ERROR_LOG_BUFFER, its size follows */
        if (options[i] == 5) snprintf(values[i], (size_t)values[i + 1], "ptxas application ptx input, line 1; fatal");
    if (!failed) *out = fresh(MODULE, sizeof(Module));
    return failed;
}
CUresult cuModuleUnload(void *m) { NEED_CONTEXT; NEED(m, MODULE); gone(m); return 0; }
CUresult cuModuleGetFunction(void **out, void *m, const char *name) {
    static int function = FUNCTION;
    NEED_CONTEXT; NEED(m, MODULE);
    *out = &function;
    return strcmp(name, "conformance_scale") ? NOT_FOUND : 0;
}
CUresult cuFuncSetBlockShape(void *f, int x, int y, int z) { NEED(f, FUNCTION); return x * y * z > 1024 ? INVALID : 0; }
CUresult cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                        void *s, void **params, void **extra) {
    NEED(f, FUNCTION);
    if (!gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024 || shared > 48 * 1024) return INVALID;
    Op op = {.kernel = 1};
    if (params) {
        memcpy(op.values, params[0], 8); memcpy(op.values + 8, params[1], 4); memcpy(op.values + 12, params[2], 4);
    } else if (extra && extra[0] == (void *)1 && extra[2] == (void *)2 && *(size_t *)extra[3] >= 16) {
        memcpy(op.values, extra[1], 16);
    } else return INVALID;
    return queue(s, op);
}

/* Graphs */

CUresult cuStreamBeginCapture_v2(void *s, int mode) {
    NEED_CONTEXT; NEED(s, STREAM);
    Stream *stream = s;
    if (mode != 1 || stream->capturing) return INVALID; /* thread-local */
    stream->capturing = 1, stream->spoilt = 0, stream->graph = fresh(GRAPH, sizeof(Graph));
    capturing_here = stream;
    return 0;
}
CUresult cuStreamEndCapture(void *s, void **out) {
    NEED_CONTEXT; NEED(s, STREAM);
    Stream *stream = s;
    if (!stream->capturing) return INVALID;
    stream->capturing = 0, capturing_here = NULL, *out = stream->graph;
    if (!stream->spoilt) return 0;
    gone(stream->graph), *out = NULL;
    return 901;
}
CUresult cuGraphInstantiateWithFlags(void **out, void *g, unsigned long long flags) {
    NEED_CONTEXT; NEED(g, GRAPH);
    if (flags) return INVALID;
    Graph *made = fresh(EXECUTABLE, sizeof(Graph));
    made->first = ((Graph *)g)->first;
    *out = made;
    return 0;
}
CUresult cuGraphLaunch(void *x, void *s) {
    NEED_CONTEXT; NEED(x, EXECUTABLE); NEED(s, STREAM);
    for (Op *op = ((Graph *)x)->first; op; op = op->next) perform(op);
    return 0;
}
CUresult cuGraphDestroy(void *g) { NEED_CONTEXT; NEED(g, GRAPH); gone(g); return 0; }
CUresult cuGraphExecDestroy(void *x) { NEED_CONTEXT; NEED(x, EXECUTABLE); gone(x); return 0; }
