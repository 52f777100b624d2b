/* What programs do, in rows that take about as long as each other under QEMU TCG. Built static by the
 * benchmark `guest`, runs in the test guest as root: `bench ROW [TIMES]`. Every row prints a checksum,
 * so that no work is optimised away and an emulator that computes wrongly is seen. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

typedef uint64_t (*row)(unsigned times);
#define KEEP __attribute__((noinline, noclone))

static uint32_t seed = 1;
static uint32_t next_random(void)
{
	seed = seed * 1664525 + 1013904223;
	return seed;
}

/* ---- integers ------------------------------------------------------------------------------- */

static uint64_t sieve(unsigned times)
{
	enum { N = 1 << 16 };
	static uint8_t composite[N];
	uint64_t primes = 0;
	while (times--) {
		memset(composite, 0, N);
		for (unsigned i = 2; i < N; i++) {
			if (composite[i])
				continue;
			primes++;
			for (unsigned j = 2 * i; j < N; j += i)
				composite[j] = 1;
		}
	}
	return primes;
}

static uint8_t buffer[1 << 16];
static void fill(void)
{
	for (unsigned i = 0; i < sizeof buffer; i++)
		buffer[i] = next_random() >> 24;
}

static uint64_t crc32(unsigned times)
{
	uint32_t table[256], crc = ~0u;
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;
		for (int k = 0; k < 8; k++)
			c = c >> 1 ^ (0xEDB88320 & -(c & 1));
		table[i] = c;
	}
	fill();
	while (times--)
		for (unsigned i = 0; i < sizeof buffer; i++)
			crc = table[(crc ^ buffer[i]) & 255] ^ crc >> 8;
	return ~crc;
}

static uint32_t ror(uint32_t x, int n) { return x >> n | x << (32 - n); }

static uint64_t sha256(unsigned times)
{
	static uint32_t k[64];
	uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	fill();
	for (int i = 0; i < 64; i++)
		k[i] = next_random();
	while (times--) {
		for (unsigned at = 0; at < sizeof buffer; at += 64) {
			uint32_t w[64], v[8];
			memcpy(w, buffer + at, 64);
			for (int i = 16; i < 64; i++) {
				uint32_t a = w[i - 15], b = w[i - 2];
				w[i] = w[i - 16] + w[i - 7] + (ror(a, 7) ^ ror(a, 18) ^ a >> 3) + (ror(b, 17) ^ ror(b, 19) ^ b >> 10);
			}
			memcpy(v, h, sizeof v);
			for (int i = 0; i < 64; i++) {
				uint32_t t1 = v[7] + (ror(v[4], 6) ^ ror(v[4], 11) ^ ror(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
				uint32_t t2 = (ror(v[0], 2) ^ ror(v[0], 13) ^ ror(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
				memmove(v + 1, v, 28);
				v[4] += t1;
				v[0] = t1 + t2;
			}
			for (int i = 0; i < 8; i++)
				h[i] += v[i];
		}
	}
	return (uint64_t)h[0] << 32 | h[7];
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static KEEP void quicksort(uint32_t *a, long n)
{
	while (n > 12) {
		uint32_t pivot = a[n / 2];
		long i = 0, j = n - 1;
		while (i <= j) {
			while (a[i] < pivot)
				i++;
			while (a[j] > pivot)
				j--;
			if (i <= j) {
				uint32_t t = a[i];
				a[i++] = a[j];
				a[j--] = t;
			}
		}
		quicksort(a, j + 1);
		a += i;
		n -= i;
	}
	if (n > 1)
		qsort(a, n, sizeof *a, ascending);
}

static uint64_t sort(unsigned times)
{
	enum { N = 1 << 15 };
	static uint32_t a[N];
	uint64_t sum = 0;
	while (times--) {
		for (int i = 0; i < N; i++)
			a[i] = next_random();
		quicksort(a, N);
		sum = sum * 31 + a[N / 3];
	}
	return sum;
}

/* ---- branches ------------------------------------------------------------------------------- */

/* A machine of its own: collatz lengths. */
static uint64_t interpreter(unsigned times)
{
	enum { PUSH, ADD, MUL, AND, SHR, DUP, SWAP, JZ, JMP, LOAD, STORE, NE, HALT };
	static const int program[] = {
		/* 0: while (r0 != 1) */ LOAD, 0, PUSH, 1, NE, JZ, 41,
		/* 7: r1++ */ LOAD, 1, PUSH, 1, ADD, STORE, 1,
		/* 14: if (r0 & 1) */ LOAD, 0, PUSH, 1, AND, JZ, 33,
		/* 21: r0 = 3 * r0 + 1 */ LOAD, 0, PUSH, 3, MUL, PUSH, 1, ADD, STORE, 0, JMP, 0,
		/* 33: r0 >>= 1 */ LOAD, 0, PUSH, 1, SHR, STORE, 0, /* 40 */ DUP, /* 41 */ HALT,
	};
	uint64_t sum = 0;
	for (unsigned start = 1; start <= times; start++) {
		uint64_t stack[16], r[2] = { start, 0 };
		int sp = 0, pc = 0;
		for (;;) {
			switch (program[pc++]) {
			case PUSH: stack[sp++] = program[pc++]; continue;
			case ADD: sp--; stack[sp - 1] += stack[sp]; continue;
			case MUL: sp--; stack[sp - 1] *= stack[sp]; continue;
			case AND: sp--; stack[sp - 1] &= stack[sp]; continue;
			case SHR: sp--; stack[sp - 1] >>= stack[sp]; continue;
			case DUP: sp = 0; pc = 0; continue;
			case SWAP: { uint64_t t = stack[sp - 1]; stack[sp - 1] = stack[sp - 2]; stack[sp - 2] = t; continue; }
			case JZ: pc = stack[--sp] ? pc + 1 : program[pc]; continue;
			case JMP: pc = program[pc]; continue;
			case LOAD: stack[sp++] = r[program[pc++]]; continue;
			case STORE: r[program[pc++]] = stack[--sp]; continue;
			case NE: sp--; stack[sp - 1] = stack[sp - 1] != stack[sp]; continue;
			case HALT: break;
			}
			break;
		}
		sum += r[1];
	}
	return sum;
}

static KEEP uint64_t ackermann(uint64_t m, uint64_t n)
{
	if (m == 0)
		return n + 1;
	return ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1));
}

static KEEP unsigned fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static uint64_t calls(unsigned times)
{
	uint64_t sum = 0;
	while (times--)
		sum += fibonacci(22) + ackermann(2, 60);
	return sum;
}

/* ---- memory --------------------------------------------------------------------------------- */

static uint64_t chase(unsigned times)
{
	enum { N = (64 << 20) / 64 };
	struct line { uint32_t next, pad[15]; } *a = mmap(0, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* One cycle through all lines, by a full-period generator. */
	uint32_t at = 0;
	for (uint32_t i = 0; i < N; i++) {
		uint32_t to = (at * 1664525 + 1013904223) % N;
		a[at].next = to;
		at = to;
	}
	uint64_t sum = 0;
	for (uint32_t p = 0; times--; )
		for (int i = 0; i < 1 << 16; i++)
			sum += p = a[p].next;
	return sum;
}

static uint64_t copies(unsigned times)
{
	static uint8_t a[1 << 20], b[1 << 20];
	for (unsigned i = 0; i < sizeof a; i++)
		a[i] = i;
	while (times--) {
		memcpy(b, a, sizeof a - 64);
		memmove(a + 3, b + 1, sizeof a / 2);
		for (int n = 16; n < 2048; n += 16)
			memcpy(a + n, b + 5 * n, n);
	}
	return a[12345] + b[54321];
}

static uint64_t rep_movs(unsigned times)
{
	static uint8_t a[1 << 20], b[1 << 20];
	for (unsigned i = 0; i < sizeof a; i++)
		a[i] = i;
	while (times--) {
		void *to = b, *from = a;
		size_t n = sizeof a;
		asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) :: "memory");
		to = a + 8, from = b, n = sizeof a / 8 - 1;
		asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) :: "memory");
		to = b, n = 1000;
		asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(7) : "memory");
	}
	return a[12345] + b[54321];
}

/* ---- floating point ------------------------------------------------------------------------- */

static uint64_t bits(double x)
{
	uint64_t u;
	memcpy(&u, &x, 8);
	return u;
}

static uint64_t scalar(unsigned times)
{
	double x[5], v[5] = { 0 }, m[5];
	for (int i = 0; i < 5; i++)
		x[i] = 1.5 * i * i - 3, m[i] = 1.0 / (i + 1);
	for (unsigned t = 0; t < times * 1000; t++) {
		for (int i = 0; i < 5; i++)
			for (int j = 0; j < 5; j++) {
				double d = x[i] - x[j], r = d * d + 0.01;
				v[i] -= d * m[j] * 0.001 / (r * sqrt(r));
			}
		for (int i = 0; i < 5; i++)
			x[i] += v[i] * 0.001;
	}
	return bits(x[0] + x[4]);
}

typedef double pair __attribute__((vector_size(16)));

static uint64_t packed(unsigned times)
{
	enum { N = 64 };
	static pair a[N][N / 2], b[N][N / 2], c[N][N / 2];
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N / 2; j++) {
			a[i][j] = (pair){ i * 0.5 + j, i - j * 0.25 };
			b[i][j] = (pair){ 1.0 / (i + j + 1), (i ^ j) * 0.125 };
		}
	while (times--)
		for (int i = 0; i < N; i++)
			for (int j = 0; j < N / 2; j++) {
				pair sum = c[i][j] * (pair){ 0.5, 0.5 };
				for (int k = 0; k < N / 2; k++)
					sum += a[i][k] * b[k][j];
				c[i][j] = sum;
			}
	return bits(c[3][5][0] + c[60][30][1]);
}

static uint64_t x87(unsigned times)
{
	long double x = 0.3L, y = 0, a = 1.4L;
	for (unsigned t = 0; t < times * 1000; t++) {
		long double z = 1 - a * x * x + y;
		y = 0.3L * x / (1 + y * y * 0.001L);
		x = z;
	}
	return bits((double)(x + y));
}

/* ---- operating system ----------------------------------------------------------------------- */

static uint64_t getpids(unsigned times)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < times * 1000; i++)
		sum += syscall(SYS_getppid) != 0;
	return sum;
}

static uint64_t forks(unsigned times)
{
	uint64_t sum = 0;
	while (times--) {
		pid_t child = fork();
		int status = 0;
		if (child == 0)
			_exit(times & 63);
		if (child < 0 || waitpid(child, &status, 0) != child)
			abort();
		sum += WEXITSTATUS(status);
	}
	return sum;
}

static uint64_t pipes(unsigned times)
{
	int there[2], back[2];
	uint32_t n = 0;
	if (pipe(there) || pipe(back))
		abort();
	if (fork() == 0) {
		close(there[1]);
		while (read(there[0], &n, 4) == 4)
			n = 3 * n + 1, write(back[1], &n, 4) == 4 ? 0 : (abort(), 0);
		_exit(0);
	}
	while (times--)
		if (write(there[1], &n, 4) != 4 || read(back[0], &n, 4) != 4)
			abort();
	close(there[1]);
	wait(0);
	return n;
}

static uint64_t faults(unsigned times)
{
	uint64_t sum = 0;
	while (times--) {
		uint8_t *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (unsigned i = 0; i < 1 << 20; i += 4096)
			p[i] = i >> 12, sum += p[i + 1] + p[i];
		munmap(p, 1 << 20);
	}
	return sum;
}

/* ---- code that changes ---------------------------------------------------------------------- */

static uint8_t *code_page(size_t size)
{
	return mmap(0, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* The operand of an instruction changes before each call. */
static uint64_t smc_patch(unsigned times)
{
	uint8_t *code = code_page(4096);
	static const uint8_t text[] = { 0x8d, 0x87, 0, 0, 0, 0, 0x35, 0x55, 0, 0, 0, 0xc3 }; /* lea eax,[rdi+N]; xor eax,55h; ret */
	uint32_t sum = 0;
	memcpy(code, text, sizeof text);
	for (unsigned i = 0; i < times * 1000; i++) {
		memcpy(code + 2, &i, 4);
		sum = ((uint32_t (*)(uint32_t))(uintptr_t)code)(sum);
	}
	return sum;
}

/* Data that changes lies in the page of the code that changes it. */
static uint64_t smc_neighbour(unsigned times)
{
	uint8_t *code = code_page(4096);
	/* mov eax,[rdi]; add eax,esi; mov [rdi],eax; dec esi; jne -; ret */
	static const uint8_t text[] = { 0x8b, 0x07, 0x01, 0xf0, 0x89, 0x07, 0xff, 0xce, 0x75, 0xf6, 0xc3 };
	memcpy(code, text, sizeof text);
	uint32_t *data = (uint32_t *)(code + 2048);
	while (times--)
		((void (*)(uint32_t *, uint32_t))(uintptr_t)code)(data, 1000);
	return *data;
}

/* Functions are made, called a few times, and made anew elsewhere in a ring of pages. */
static uint64_t smc_generate(unsigned times)
{
	enum { SIZE = 1 << 16, FUNCTION = 256 };
	uint8_t *ring = code_page(SIZE);
	uint32_t sum = 0;
	for (unsigned i = 0; i < times * 100; i++) {
		uint8_t *start = ring + i * FUNCTION % SIZE, *at = start;
		*at++ = 0x89, *at++ = 0xf8; /* mov eax,edi */
		for (uint32_t n = 0; n < 32; n++) {
			uint32_t value = i * n;
			*at++ = n & 1 ? 0x05 : 0x35; /* add or xor eax,imm32 */
			memcpy(at, &value, 4);
			at += 4;
		}
		*at = 0xc3;
		for (int n = 0; n < 4; n++)
			sum = ((uint32_t (*)(uint32_t))(uintptr_t)start)(sum + n);
	}
	return sum;
}

/* ---- devices -------------------------------------------------------------------------------- */

static uint64_t ports(unsigned times)
{
	uint64_t sum = 0;
	if (iopl(3))
		abort();
	for (unsigned i = 0; i < times * 1000; i++)
		sum += inb(0x21) & 1, sum += inb(0x3fb) & 0;
	return sum ? 1 : 0;
}

static const struct { const char *name; row run; unsigned times; } ROWS[] = {
	{ "sieve", sieve, 900 },	 { "crc32", crc32, 1100 },	  { "sha256", sha256, 60 },
	{ "sort", sort, 40 },		 { "interp", interpreter, 20000 }, { "calls", calls, 900 },
	{ "chase", chase, 40 },	 { "memcpy", copies, 900 },	  { "repmovs", rep_movs, 300 },
	{ "scalar", scalar, 300 },	 { "packed", packed, 300 },	  { "x87", x87, 2400 },
	{ "getpid", getpids, 1200 },	 { "fork", forks, 1500 },	  { "pipe", pipes, 12000 },
	{ "faults", faults, 200 },	 { "smc-patch", smc_patch, 80 }, { "smc-data", smc_neighbour, 3000 },
	{ "smc-make", smc_generate, 100 }, { "ports", ports, 2000 },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof ROWS / sizeof *ROWS; i++)
		if (!strcmp(argv[1], ROWS[i].name)) {
			unsigned times = argc > 2 ? strtoul(argv[2], 0, 0) : ROWS[i].times;
			printf("bench: %s %#llx\n", ROWS[i].name, (unsigned long long)ROWS[i].run(times));
			return 0;
		}
	fprintf(stderr, "usage: bench ROW [TIMES], ROW one of");
	for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
		fprintf(stderr, " %s", ROWS[i].name);
	fprintf(stderr, "\n");
	return 2;
}
