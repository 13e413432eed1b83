/* Preloaded into a server: its wall clock is off by what a shared file says; its monotonic clock is left alone.
 *
 * The file holds two numbers of eight bytes: nanoseconds to add, and how often somebody was told a wrong time, which
 * is the proof. Nothing here allocates or looks symbols up, as libfaketime does: servers that bring an allocator of
 * their own ask for the time while that is being set up. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct shared {
    volatile int64_t offset;
    volatile uint64_t told;
};

static struct shared *shared;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("JEPSEN_CLOCK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *memory = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED)
        shared = memory;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int error = (int)syscall(SYS_clock_gettime, clock, now);
    if (error || !shared || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return error;
    int64_t offset = shared->offset;
    if (offset) {
        int64_t sum = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + offset;
        now->tv_sec = sum / 1000000000;
        now->tv_nsec = sum % 1000000000;
        __atomic_fetch_add(&shared->told, 1, __ATOMIC_RELAXED);
    }
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *also)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (also)
        *also = exact.tv_sec;
    return exact.tv_sec;
}
