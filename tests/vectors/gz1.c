/*
 * The golden vectors of the encoder `gz1` once more, by libdeflate alone: the same inputs, the same blocks, and the rows
 * of gz1.tsv without the digests, of which each encoding goes into a file of its own for `sha256sum`.
 *
 * Compiled for other processors, and with all that is chosen by the processor switched off, the bytes must be the same.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libdeflate.h"

#define BLOCK ((size_t)1 << 20)
#define LEVEL 2

static unsigned char input[3 * BLOCK];

static size_t text(size_t size)
{
	static const char line[] = "One digest is the whole machine, and going back is as safe as never having left.\n";
	for (size_t i = 0; i < size; i++)
		input[i] = (unsigned char)line[i % (sizeof line - 1)];
	return size;
}

static size_t zeros(size_t size)
{
	memset(input, 0, size);
	return size;
}

/* xorshift64*, as in src/bundle/gz1.rs. */
static size_t noise(size_t size)
{
	uint64_t state = 0x9e3779b97f4a7c15u;
	for (size_t i = 0; i < size; i++) {
		state ^= state >> 12;
		state ^= state << 25;
		state ^= state >> 27;
		input[i] = (unsigned char)((state * 0x2545f4914f6cdd1du) >> 56);
	}
	return size;
}

static size_t numbers(size_t size)
{
	size_t at = 0;
	for (unsigned long long n = 0; at < size; n++) {
		char line[64];
		size_t length = (size_t)snprintf(line, sizeof line, "%llu %llu\n", n, n * n);
		if (length > size - at)
			length = size - at;
		memcpy(input + at, line, length);
		at += length;
	}
	return size;
}

static int encode(const char *directory, int number, const char *name, size_t size)
{
	char path[4096];
	struct libdeflate_compressor *compressor = libdeflate_alloc_compressor(LEVEL);
	snprintf(path, sizeof path, "%s/%d", directory, number);
	FILE *out = fopen(path, "wb");
	size_t all = 0, at = 0;
	if (!compressor || !out)
		return 1;
	do {
		size_t block = size - at < BLOCK ? size - at : BLOCK;
		size_t room = libdeflate_gzip_compress_bound(compressor, block);
		unsigned char *member = malloc(room);
		size_t length = member ? libdeflate_gzip_compress(compressor, input + at, block, member, room) : 0;
		if (length == 0 || fwrite(member, 1, length, out) != length)
			return 1;
		free(member);
		all += length;
		at += block;
	} while (at < size);
	libdeflate_free_compressor(compressor);
	printf("%s\t%zu\t%zu\n", name, size, all);
	return fclose(out);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	const char *to = argv[1];
	input[0] = 'a';
	return encode(to, 0, "empty", 0) || encode(to, 1, "one byte", 1) ||
	       encode(to, 2, "1 MiB - 1 of text", text(BLOCK - 1)) || encode(to, 3, "1 MiB of text", text(BLOCK)) ||
	       encode(to, 4, "1 MiB + 1 of text", text(BLOCK + 1)) ||
	       encode(to, 5, "3 MiB of zeros", zeros(3 * BLOCK)) ||
	       encode(to, 6, "2.5 MiB of noise", noise(5 * BLOCK / 2)) ||
	       encode(to, 7, "1.5 MiB of numbers", numbers(3 * BLOCK / 2));
}
