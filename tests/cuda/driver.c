/* libcuda.so.1 that executes nothing: memory of devices is the host's, copies are made, kernels are compiled by the real NVRTC and
 * their launches held to a card's limits, but not run. So a machine without a GPU can show that every kernel compiles for one, and
 * that the program asks a driver for nothing that it would refuse.
 * DRIVER_DEVICES (2) devices of compute capability 9.0. PTX of each kernel is written to DRIVER_PTX/NAME.ptx, the launches to
 * DRIVER_PTX/launches at the end: NAME COUNT. What a card would refuse ends the process with a line that says so. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int CUresult;
enum { OK = 0, INVALID = 1, NOT_FOUND = 500 };
enum { MAX_THREADS = 1024, MAX_SHARED = 232448, GRID_X = 2147483647, GRID_YZ = 65535 };

typedef struct Kernel {
  char name[256];
  long launches;
  int shared; /* What cuFuncSetAttribute allowed. */
  struct Kernel *next;
} Kernel;
static Kernel *kernels;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void refuse(const char *what, const char *name, long found, long most) {
  fprintf(stderr, "the driver refuses %s of kernel %s: %ld, at most %ld\n", what, name, found, most);
  _exit(99);
}

static void write_launches(void) {
  const char *folder = getenv("DRIVER_PTX");
  char path[4096];
  if (!folder) return;
  snprintf(path, sizeof path, "%s/launches", folder);
  FILE *file = fopen(path, "a");
  if (!file) return;
  for (Kernel *kernel = kernels; kernel; kernel = kernel->next) fprintf(file, "%s %ld\n", kernel->name, kernel->launches);
  fclose(file);
}

CUresult cuInit(unsigned flags) {
  static int begun;
  pthread_mutex_lock(&lock);
  if (!begun++) atexit(write_launches);
  pthread_mutex_unlock(&lock);
  return flags ? INVALID : OK;
}
/* NVRTC looks at the driver's private tables: an empty one, which begins with its size. */
CUresult cuGetExportTable(const void **table, const void *id) {
  static const size_t empty[8] = {sizeof(size_t)};
  (void)id;
  *table = empty;
  return OK;
}
CUresult cuDriverGetVersion(int *version) { *version = 12090; return OK; }
CUresult cuDeviceGetCount(int *count) {
  const char *devices = getenv("DRIVER_DEVICES");
  *count = devices ? atoi(devices) : 2;
  return OK;
}
CUresult cuDeviceGet(int *device, int ordinal) {
  int count;
  cuDeviceGetCount(&count);
  *device = ordinal;
  return ordinal < count ? OK : 101;
}
CUresult cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "nothing %d", device); return OK; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = (size_t)80 << 30; return OK; }
CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
  (void)device;
  switch (attribute) {
    case 1: *value = MAX_THREADS; break;            /* threads a block */
    case 2: case 3: *value = 1024; break;           /* block x, y */
    case 4: *value = 64; break;                     /* block z */
    case 5: *value = GRID_X; break;                 /* grid x */
    case 6: case 7: *value = GRID_YZ; break;        /* grid y, z */
    case 8: *value = 49152; break;                  /* shared memory a block without asking */
    case 10: *value = 32; break;                    /* warp */
    case 16: *value = 132; break;                   /* multiprocessors */
    case 75: *value = 9; break;                     /* compute capability */
    case 76: *value = 0; break;
    case 97: *value = MAX_SHARED; break;            /* shared memory a block, when asked for */
    default: *value = 1;
  }
  return OK;
}
CUresult cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(intptr_t)(device + 1); return OK; }
CUresult cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return OK; }
CUresult cuCtxSetCurrent(void *context) { (void)context; return OK; }
CUresult cuCtxGetCurrent(void **context) { *context = (void *)1; return OK; }
CUresult cuCtxEnablePeerAccess(void *context, unsigned flags) { (void)context; (void)flags; return OK; }
CUresult cuDeviceCanAccessPeer(int *can, int device, int peer) { (void)device; (void)peer; *can = 1; return OK; }
CUresult cuStreamCreate(void **stream, unsigned flags) { (void)flags; *stream = calloc(1, 8); return OK; }
CUresult cuStreamDestroy_v2(void *stream) { free(stream); return OK; }
CUresult cuStreamSynchronize(void *stream) { (void)stream; return OK; }
CUresult cuStreamWaitEvent(void *stream, void *event, unsigned flags) { (void)stream; (void)flags; return event ? OK : INVALID; }
CUresult cuEventCreate(void **event, unsigned flags) { (void)flags; *event = calloc(1, 8); return OK; }
CUresult cuEventRecord(void *event, void *stream) { (void)stream; return event ? OK : INVALID; }
CUresult cuEventSynchronize(void *event) { return event ? OK : INVALID; }
CUresult cuEventQuery(void *event) { return event ? OK : INVALID; }
CUresult cuEventElapsedTime(float *milliseconds, void *begin, void *end) { (void)begin; (void)end; *milliseconds = 1; return OK; }
CUresult cuEventDestroy_v2(void *event) { free(event); return OK; }

/* Zeros, so that what kernels would have written is a number. */
static CUresult reserve(uint64_t *pointer, size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, 512, bytes ? bytes : 1)) return 2;
  memset(memory, 0, bytes);
  *pointer = (uint64_t)(uintptr_t)memory;
  return OK;
}
CUresult cuMemAlloc_v2(uint64_t *pointer, size_t bytes) { return reserve(pointer, bytes); }
CUresult cuMemAllocAsync(uint64_t *pointer, size_t bytes, void *stream) { (void)stream; return reserve(pointer, bytes); }
CUresult cuMemFree_v2(uint64_t pointer) { free((void *)(uintptr_t)pointer); return OK; }
CUresult cuMemFreeAsync(uint64_t pointer, void *stream) { (void)stream; return cuMemFree_v2(pointer); }
CUresult cuMemAllocHost_v2(void **pointer, size_t bytes) { *pointer = calloc(1, bytes ? bytes : 1); return *pointer ? OK : 2; }
CUresult cuMemFreeHost(void *pointer) { free(pointer); return OK; }
CUresult cuMemGetInfo_v2(size_t *unused, size_t *all) { *unused = *all = (size_t)80 << 30; return OK; }
CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  (void)stream;
  memcpy((void *)(uintptr_t)to, from, bytes);
  return OK;
}
CUresult cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
  (void)stream;
  memcpy(to, (void *)(uintptr_t)from, bytes);
  return OK;
}
CUresult cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
  (void)stream;
  memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes);
  return OK;
}
typedef struct {
  size_t from_x, from_y; int from_type; const void *from_host; uint64_t from_device; void *from_array; size_t from_pitch;
  size_t to_x, to_y; int to_type; void *to_host; uint64_t to_device; void *to_array; size_t to_pitch;
  size_t width, height;
} Copy2D;
CUresult cuMemcpy2DAsync_v2(const Copy2D *copy, void *stream) {
  (void)stream;
  const char *from = copy->from_type == 1 ? copy->from_host : (const char *)(uintptr_t)copy->from_device;
  char *to = copy->to_type == 1 ? copy->to_host : (char *)(uintptr_t)copy->to_device;
  for (size_t row = 0; row < copy->height; row++)
    memcpy(to + copy->to_x + (row + copy->to_y) * copy->to_pitch,
           from + copy->from_x + (row + copy->from_y) * copy->from_pitch, copy->width);
  return OK;
}

/* A module is its image; a kernel of it is known by its name. */
CUresult cuModuleLoadData(void **module, const void *image) { *module = strdup(image); return *module ? OK : 2; }
CUresult cuModuleUnload(void *module) { free(module); return OK; }
CUresult cuModuleGetFunction(void **function, void *module, const char *name) {
  if (!strstr(module, name)) return NOT_FOUND;
  pthread_mutex_lock(&lock);
  static int number;
  Kernel *kernel = calloc(1, sizeof *kernel);
  snprintf(kernel->name, sizeof kernel->name, "%.200s.%d.%d", name, (int)getpid(), number++);
  kernel->shared = 49152;
  kernel->next = kernels;
  kernels = kernel;
  pthread_mutex_unlock(&lock);
  const char *folder = getenv("DRIVER_PTX");
  if (folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.ptx", folder, kernel->name);
    FILE *file = fopen(path, "w");
    if (file) {
      fputs(module, file);
      fclose(file);
    }
  }
  *function = kernel;
  return OK;
}
CUresult cuFuncSetAttribute(Kernel *kernel, int attribute, int value) {
  if (attribute == 8) {
    if (value > MAX_SHARED) refuse("the shared memory", kernel->name, value, MAX_SHARED);
    kernel->shared = value > 49152 ? value : 49152;
  }
  return OK;
}
CUresult cuFuncGetAttribute(int *value, int attribute, Kernel *kernel) { (void)attribute; (void)kernel; *value = 0; return OK; }
CUresult cuLaunchKernel(Kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, void *stream, void **arguments, void **extra) {
  (void)stream; (void)arguments; (void)extra;
  if ((long)bx * by * bz > MAX_THREADS || bz > 64) refuse("the units", kernel->name, (long)bx * by * bz, MAX_THREADS);
  if (!gx || !gy || !gz || !bx || !by || !bz) refuse("no cubes or units", kernel->name, 0, 1);
  if (gy > GRID_YZ || gz > GRID_YZ) refuse("the cubes in y or z", kernel->name, gy > gz ? gy : gz, GRID_YZ);
  if ((int)shared > kernel->shared) refuse("the shared memory", kernel->name, shared, kernel->shared);
  __atomic_add_fetch(&kernel->launches, 1, __ATOMIC_RELAXED);
  return OK;
}
CUresult cuGetErrorName(CUresult error, const char **name) { *name = error ? "an error of the driver that executes nothing" : "none"; return OK; }
CUresult cuGetErrorString(CUresult error, const char **text) { return cuGetErrorName(error, text); }
