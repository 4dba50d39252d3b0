#include "measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "meta/persist.h"
#include "os/os.h"

enum { ROUNDS_MAX = 32 };

static double cpu_s(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double peak_rss_mib(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)usage.ru_maxrss / 1024;
}

static double larger(double a, double b) { return a > b ? a : b; }

/* The round that counts; it warms the caches up for the others. */
static void count_steps(struct lab *lab, const struct request *request, struct figures *figures) {
  uint64_t first_steps = lab_tree_steps(lab), first_reads = lab->heap.residency_reads;
  size_t operations = 0;
  lab->asked_pages = lab->asked_count = lab->refused_count = 0;
  for (size_t i = 0; i < request->steps; i++) {
    uint64_t steps = lab_tree_steps(lab), reads = lab->heap.residency_reads;
    operations += request->shape->step(lab);
    figures->worst_tree_steps = larger(figures->worst_tree_steps, (double)(lab_tree_steps(lab) - steps));
    figures->worst_page_reads = larger(figures->worst_page_reads, (double)(lab->heap.residency_reads - reads));
  }
  figures->op_tree_steps = (double)(lab_tree_steps(lab) - first_steps) / (double)operations;
  figures->page_reads = (double)(lab->heap.residency_reads - first_reads) / (double)lab->asked_pages;
  figures->asked_pages = (double)lab->asked_pages / (double)lab->asked_count;
  figures->refused = (double)lab->refused_count / (double)lab->asked_count;
  figures->free_spans = (double)lab->heap.free.count;
  figures->tree_spans = (double)(lab->heap.free.resident.large.count + lab->heap.free.absent.large.count);
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double time_round(struct lab *lab, const struct request *request) {
  size_t operations = 0;
  double start_s = cpu_s();
  for (size_t i = 0; i < request->steps; i++) operations += request->shape->step(lab);
  return (cpu_s() - start_s) * 1e9 / (double)operations;
}

static void time_steps(struct lab *lab, const struct request *request, struct figures *figures) {
  double ns[ROUNDS_MAX];
  size_t rounds = min_size(max_size(request->rounds, 1), ROUNDS_MAX);
  for (size_t i = 0; i < rounds; i++) ns[i] = time_round(lab, request);
  qsort(ns, rounds, sizeof ns[0], compare_doubles);
  figures->op_ns = ns[rounds / 2];
  figures->op_low_ns = ns[0];
  figures->op_high_ns = ns[rounds - 1];
}

static struct figures run(const struct request *request) {
  static struct lab lab;
  struct figures figures = {.arena_gib = (double)request->arena_bytes / (double)((size_t)1 << 30)};
  os_init();
  lab_open(&lab, request->arena_bytes, request->seed);
  double start_s = cpu_s();
  request->shape->build(&lab);
  figures.build_s = cpu_s() - start_s;
  count_steps(&lab, request, &figures);
  time_steps(&lab, request, &figures);
  if (request->verify) pageheap_verify(&lab.heap);
  figures.rss_mib = peak_rss_mib();
  figures.span_mib = (double)persist_bytes(PERSIST_SPAN) / (double)((size_t)1 << 20);
  return figures;
}

_Noreturn static void run_and_write(const struct request *request, int end) {
  struct figures figures = run(request);
  _exit(write(end, &figures, sizeof figures) == (ssize_t)sizeof figures ? 0 : 1);
}

int measure(const struct request *request, struct figures *figures) {
  int ends[2], status = 0;
  fflush(NULL);
  if (pipe(ends) != 0) return -EIO;
  pid_t child = fork();
  if (child == 0) run_and_write(request, ends[1]);
  close(ends[1]);
  bool is_complete = child > 0 && read(ends[0], figures, sizeof *figures) == (ssize_t)sizeof *figures;
  close(ends[0]);
  if (child > 0 && waitpid(child, &status, 0) != child) return -EIO;
  return is_complete && status == 0 ? 0 : -EIO;
}
