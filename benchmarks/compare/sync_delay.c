/* Makes a sync a sleep of BENCH_SYNC_US microseconds. With the data on tmpfs, a disk that takes the same time for each sync. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static struct timespec delay;

__attribute__((constructor)) static void read_delay(void)
{
    const char *text = getenv("BENCH_SYNC_US");
    long us = text ? atol(text) : 0;
    delay.tv_sec = us / 1000000;
    delay.tv_nsec = us % 1000000 * 1000;
}

static int pause_for_sync(void)
{
    /* The default slack of a timer, 50 us, would be half of the delay. */
    prctl(PR_SET_TIMERSLACK, 1000UL);
    nanosleep(&delay, NULL);
    return 0;
}

int fsync(int fd) { (void)fd; return pause_for_sync(); }
int fdatasync(int fd) { (void)fd; return pause_for_sync(); }
int sync_file_range(int fd, off_t offset, off_t count, unsigned flags)
{
    (void)fd; (void)offset; (void)count; (void)flags;
    return 0;
}
