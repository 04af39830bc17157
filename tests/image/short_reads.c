/*
 * Preloaded, gives of every file as little as read(2) may: from one byte to 4096, as a seed in `SHORT_READS` draws them.
 * How often it gave less than was asked for stands on standard error in the end.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>

static atomic_ullong shortened;
static __thread uint64_t state;

static size_t less(int fd, size_t size)
{
	struct stat is;
	if (size < 2 || fstat(fd, &is) != 0 || !S_ISREG(is.st_mode))
		return size;
	if (state == 0) {
		const char *seed = getenv("SHORT_READS");
		state = (seed ? strtoull(seed, NULL, 10) : 0) * 2 + 1;
	}
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	size_t most = size < 4096 ? size : 4096;
	size_t now = 1 + state % most;
	if (now < size)
		atomic_fetch_add(&shortened, 1);
	return now;
}

ssize_t read(int fd, void *buffer, size_t size)
{
	static ssize_t (*real)(int, void *, size_t);
	if (!real)
		real = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
	return real(fd, buffer, less(fd, size));
}

ssize_t pread64(int fd, void *buffer, size_t size, off_t at)
{
	static ssize_t (*real)(int, void *, size_t, off_t);
	if (!real)
		real = (ssize_t (*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread64");
	return real(fd, buffer, less(fd, size), at);
}

__attribute__((destructor)) static void say(void)
{
	fprintf(stderr, "short reads: %llu\n", (unsigned long long)atomic_load(&shortened));
}
