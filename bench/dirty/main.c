/* bench_dirty: what it costs to know which pages were written (src/os/os_dirty.h).
 *
 *   bench_dirty [MIB]      a range of so many MiB, 1024 by default
 *
 * The range is backed in four ways: by small pages; by huge ones; by huge ones that a write to each has split; by such
 * that were joined again.  Each figure is the median of FIVE rounds, but for the delays. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "os/os_dirty.h"

enum { FIVE = 5, RUNS = 4096, READS = 4 << 20, READS_AHEAD = 16, DELAY_SECONDS = 2 };

static struct {
  char *start;
  size_t bytes;
  size_t page_bytes;
  size_t pages;
  uint64_t random;
} range;

/* ---- tools ---- */

_Noreturn static void give_up(const char *what, int error) {
  fprintf(stderr, "bench_dirty: %s: %s\n", what, strerror(-error));
  exit(1);
}

static void require(const char *what, int error) {
  if (error != 0) give_up(what, error);
}

/* A Weyl sequence, mixed. */
static size_t random_below(uint64_t *state, size_t bound) {
  uint64_t value = *state += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return (size_t)((value ^ (value >> 31)) % bound);
}

static int compare(const void *a, const void *b) {
  double left = *(const double *)a, right = *(const double *)b;
  return (left > right) - (left < right);
}

static double median(double *values, size_t count) {
  qsort(values, count, sizeof *values, compare);
  return values[count / 2];
}

static double ms_since(uint64_t start_ns) { return (double)(os_now_ns() - start_ns) / 1e6; }

static void write_page(size_t page) { ((volatile char *)range.start)[page * range.page_bytes] = 1; }

static void write_all(void) {
  for (size_t i = 0; i < range.pages; i++) write_page(i);
}

static void write_share(double share) {
  if (share >= 1) return write_all();
  for (size_t left = (size_t)(share * (double)range.pages); left > 0; left--)
    write_page(random_below(&range.random, range.pages));
}

static void protect_all(void) { require("protect", os_dirty_protect(range.start, range.bytes)); }

static void scan_part(char *start, size_t bytes, bool protects) {
  static _Thread_local struct os_range written[RUNS];
  struct os_range rest = {(uintptr_t)start, (uintptr_t)start + bytes};
  size_t count;
  while (rest.start < rest.end) require("scan", os_dirty_scan(&rest, protects, written, RUNS, &count));
}

/* ---- the four ways ---- */

/* Small pages in no order, so that their memory lies scattered as it does in a process that has run for long. */
static void back_anew(bool huge) {
  require("release", os_release(range.start, range.bytes));
  os_advise_huge(range.start, range.bytes, huge);
  const uint64_t step = huge ? 1 : 2654435761; /* a prime */
  for (uint64_t i = 0; i < range.pages; i++) write_page(i * step % range.pages);
}

static void write_each_huge_page(size_t page_in_it) {
  size_t unit = os_huge_page_bytes() / range.page_bytes;
  for (size_t i = 0; i + unit <= range.pages; i += unit) write_page(i + page_in_it);
}

static void split_all(void) {
  protect_all();
  write_each_huge_page(1);
}

static size_t huge_pages(void) { return range.bytes / os_huge_page_bytes(); }

/* ---- costs of calls ---- */

static double time_protect(void (*before)(void)) {
  double ms[FIVE];
  for (size_t i = 0; i < FIVE; i++) {
    if (before != NULL) before();
    uint64_t start_ns = os_now_ns();
    protect_all();
    ms[i] = ms_since(start_ns);
  }
  return median(ms, FIVE);
}

static void print_protect(void (*before)(void)) {
  double written_ms = time_protect(before);
  printf("  protect: all written %.2f ms, none %.2f ms\n", written_ms, time_protect(NULL));
}

static double time_scan(double share, bool protects) {
  double ms[FIVE];
  for (size_t i = 0; i < FIVE; i++) {
    protect_all();
    write_share(share);
    uint64_t start_ns = os_now_ns();
    scan_part(range.start, range.bytes, protects);
    ms[i] = ms_since(start_ns);
  }
  return median(ms, FIVE);
}

static void *scan_half(void *half) {
  scan_part(half, range.bytes / 2, false);
  return NULL;
}

static double time_two_scans(double share) {
  double ms[FIVE];
  for (size_t i = 0; i < FIVE; i++) {
    protect_all();
    write_share(share);
    uint64_t start_ns = os_now_ns();
    pthread_t thread;
    if (pthread_create(&thread, NULL, scan_half, range.start) != 0) abort();
    scan_half(range.start + range.bytes / 2);
    pthread_join(thread, NULL);
    ms[i] = ms_since(start_ns);
  }
  return median(ms, FIVE);
}

/* What a marker does most: independent reads, fetched ahead.  Nanoseconds of processor time each. */
static double time_reads(void) {
  double ns[FIVE];
  for (size_t round = 0; round < FIVE; round++) {
    size_t ahead[READS_AHEAD] = {0};
    uint64_t start_ns = os_thread_cpu_ns();
    for (size_t i = 0; i < READS; i++) {
      size_t *slot = &ahead[i % READS_AHEAD];
      (void)*(volatile char *)(range.start + *slot);
      *slot = round_down(random_below(&range.random, range.bytes), 64);
      __builtin_prefetch(range.start + *slot);
    }
    ns[round] = (double)(os_thread_cpu_ns() - start_ns) / READS;
  }
  return median(ns, FIVE);
}

static void print_scans(const char *way) {
  static const double shares[] = {0, 0.001, 0.01, 0.1, 1};
  for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
    double plain_ms = time_scan(shares[i], false), protecting_ms = time_scan(shares[i], true);
    double two_ms = time_two_scans(shares[i]);
    printf("  %-6s %5.1f %% written: scan %6.2f ms, by two threads %6.2f ms, protecting %6.2f ms\n", way,
           100 * shares[i], plain_ms, two_ms, protecting_ms);
  }
}

/* ---- costs of writes ---- */

static double time_writes(void (*write)(void), size_t count) {
  double us[FIVE];
  for (size_t i = 0; i < FIVE; i++) {
    protect_all();
    uint64_t start_ns = os_now_ns();
    write();
    us[i] = ms_since(start_ns) * 1e3 / (double)count;
  }
  return median(us, FIVE);
}

static void write_tenth(void) { write_share(0.1); }

static void print_huge_writes(void) {
  double first_us[FIVE], second_us[FIVE];
  for (size_t i = 0; i < FIVE; i++) {
    back_anew(true);
    protect_all();
    uint64_t start_ns = os_now_ns();
    write_each_huge_page(1);
    first_us[i] = ms_since(start_ns) * 1e3 / (double)huge_pages();
    start_ns = os_now_ns();
    write_each_huge_page(2);
    second_us[i] = ms_since(start_ns) * 1e3 / (double)huge_pages();
  }
  printf("  first write to a protected huge page %.2f us, to the next page in it %.2f us\n", median(first_us, FIVE),
         median(second_us, FIVE));
}

/* ---- delays of a program beside scans that protect ---- */

static uint32_t quit; /* atomic */

static void *scan_until_quit(void *argument) {
  (void)argument;
  while (atomic_load_acquire(&quit) == 0) {
    scan_part(range.start, range.bytes, true);
    usleep(1000);
  }
  return NULL;
}

static void write_somewhere(void) { write_page(random_below(&range.random, range.pages)); }

/* As an allocator of the program's does. */
static void map_and_unmap(void) {
  void *memory = os_map(range.page_bytes);
  if (memory != NULL) os_unmap(memory, range.page_bytes);
}

static void print_delays(const char *what, void (*act)(void), bool beside_scans) {
  enum { EVERY_NS = 10000, MANY = DELAY_SECONDS * 100000 };
  static double us[MANY];
  pthread_t thread;
  atomic_store_release(&quit, 0u);
  if (beside_scans && pthread_create(&thread, NULL, scan_until_quit, NULL) != 0) abort();
  size_t count = 0;
  uint64_t begin_ns = os_now_ns();
  for (uint64_t due_ns = begin_ns; count < MANY && due_ns < begin_ns + DELAY_SECONDS * UINT64_C(1000000000);) {
    while (os_now_ns() < due_ns) continue;
    due_ns = os_now_ns() + EVERY_NS;
    uint64_t start_ns = os_now_ns();
    act();
    us[count++] = ms_since(start_ns) * 1e3;
  }
  atomic_store_release(&quit, 1u);
  if (beside_scans) pthread_join(thread, NULL);
  qsort(us, count, sizeof us[0], compare);
  printf("  %-8s %-14s p50 %6.2f us, p99 %7.2f us, p99.9 %7.2f us, worst %8.2f us\n", what,
         beside_scans ? "beside scans" : "alone", us[count / 2], us[count * 99 / 100], us[count * 999 / 1000],
         us[count - 1]);
}

/* ---- the report ---- */

static void report_small(void) {
  printf("small pages\n");
  back_anew(false);
  print_protect(write_all);
  double in_order_us = time_writes(write_all, range.pages), scattered_us = time_writes(write_tenth, range.pages / 10);
  printf("  first write to a protected page %.2f us in order, %.2f us at random\n", in_order_us, scattered_us);
  printf("  reads %.1f ns\n", time_reads());
  print_scans("small");
  for (int beside = 0; beside <= 1; beside++) {
    print_delays("write", write_somewhere, beside);
    print_delays("mmap", map_and_unmap, beside);
  }
}

static void make_huge(void) { back_anew(true); }

static void report_huge(void) {
  printf("huge pages\n");
  print_protect(make_huge);
  printf("  reads %.1f ns\n", time_reads());
  print_huge_writes();
  printf("  reads once all are split %.1f ns\n", time_reads());
  print_scans("split");
  back_anew(true);
  split_all();
  uint64_t start_ns = os_now_ns();
  int error = os_dirty_join(range.start, range.bytes);
  if (error != 0) printf("  not all could be joined: %s\n", strerror(-error));
  printf("  joined in %.3f ms each\n", ms_since(start_ns) / (double)huge_pages());
  printf("  reads once all are joined %.1f ns\n", time_reads());
}

int main(int count, char **arguments) {
  os_init();
  require("not to be had", os_dirty_open());
  range.page_bytes = os_page_bytes();
  range.bytes = (count > 1 ? strtoul(arguments[1], NULL, 10) : 1024) << 20;
  range.bytes = max_size(round_up(range.bytes, (size_t)4 << 20), (size_t)64 << 20);
  range.pages = range.bytes / range.page_bytes;
  range.start = os_reserve(range.bytes, max_size(range.page_bytes, os_huge_page_bytes()));
  if (range.start == NULL || os_commit(range.start, range.bytes) != 0) give_up("no memory", 0);
  require("watch", os_dirty_watch(range.start, range.bytes));
  printf("%zu MiB\n", range.bytes >> 20);
  report_small();
  if (os_huge_page_bytes() != 0) report_huge();
  return 0;
}
