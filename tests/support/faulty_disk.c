/* Makes the n-th write or sync of a data.mdb fail. Loaded with LD_PRELOAD; told what to do by fault_arm(). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int calls, from = -1, upto = -1, hits;
static int kind; /* an errno, or 0: a short write */

void fault_arm(int n, int count, int what) {
    kind = what;
    atomic_store(&calls, 0);
    atomic_store(&hits, 0);
    atomic_store(&from, n);
    atomic_store(&upto, n + count);
}
int fault_hits(void) { return atomic_load(&hits); }
int fault_calls(void) { return atomic_load(&calls); }

static int strikes(int fd) {
    char link[64], path[512];
    if (atomic_load(&from) < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 8) return 0;
    path[n] = 0;
    if (strcmp(path + n - 8, "data.mdb") != 0) return 0;
    int call = atomic_fetch_add(&calls, 1);
    if (call < atomic_load(&from) || call >= atomic_load(&upto)) return 0;
    atomic_fetch_add(&hits, 1);
    return 1;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define WRITES(name, params, size, part, ...)                                                                          \
    ssize_t name params {                                                                                              \
        REAL(name);                                                                                                    \
        if (strikes(fd)) {                                                                                             \
            if (kind) { errno = kind; return -1; }                                                                     \
            part;                                                                                                      \
        }                                                                                                              \
        return real(__VA_ARGS__);                                                                                      \
    }
WRITES(write, (int fd, const void *b, size_t n), n, n /= 2, fd, b, n)
WRITES(pwrite, (int fd, const void *b, size_t n, off_t o), n, n /= 2, fd, b, n, o)
WRITES(pwrite64, (int fd, const void *b, size_t n, off64_t o), n, n /= 2, fd, b, n, o)
WRITES(writev, (int fd, const struct iovec *v, int n), n, n = (n + 1) / 2, fd, v, n)
WRITES(pwritev, (int fd, const struct iovec *v, int n, off_t o), n, n = (n + 1) / 2, fd, v, n, o)
WRITES(pwritev64, (int fd, const struct iovec *v, int n, off64_t o), n, n = (n + 1) / 2, fd, v, n, o)

#define SYNCS(name, params, ...)                                                                                       \
    int name params {                                                                                                  \
        REAL(name);                                                                                                    \
        if (strikes(fd)) { errno = kind ? kind : EIO; return -1; }                                                     \
        return real(__VA_ARGS__);                                                                                      \
    }
SYNCS(fdatasync, (int fd), fd)
SYNCS(fsync, (int fd), fd)
SYNCS(ftruncate, (int fd, off_t n), fd, n)
SYNCS(ftruncate64, (int fd, off64_t n), fd, n)
