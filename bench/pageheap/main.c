/* bench_pageheap: does the page heap stay fast as the heap grows?
 *
 * It makes the same shapes of free memory at several sizes of address space (lab.h), allocates and frees in them, and
 * shows time and counted steps of one operation with their ratio from each size to the next.  Counted are comparisons and
 * rotations in the trees of free spans, and pages whose residency an allocation looked up: the only loops that a larger
 * heap could make longer.  With --check it compares the counts, which do not depend on the machine, with what pageheap.h
 * promises. */
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, SIZES_MAX = 8, RESULTS_MAX = 64 };

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

struct options {
  size_t sizes[SIZES_MAX]; /* bytes, ascending */
  size_t size_count;
  struct request request;
  const char *only; /* NULL: all; else a text that the shape's name must contain */
  const char *json_path;
  bool check;
};

static const char help[] =
    "usage: bench_pageheap [option...]\n"
    "\n"
    "  --gib LIST    sizes of address space, ascending (default 1,10,100)\n"
    "  --quick       1 and 10 GiB, fewer steps: some seconds\n"
    "  --check       small sizes; fails where a count is not within its bound\n"
    "  --only TEXT   only shapes whose name contains TEXT\n"
    "  --steps N     steps in a round (default 500000)\n"
    "  --rounds N    timed rounds (default 5)\n"
    "  --seed N      another random sequence (default 1)\n"
    "  --json FILE   writes everything there, too\n"
    "  --list        shows the shapes\n";

_Noreturn static void usage_error(const char *message, const char *what) {
  fprintf(stderr, "bench_pageheap: %s: %s\n(bench_pageheap --help shows the options)\n", message, what);
  exit(EXIT_USAGE);
}

static size_t number_option(const char *name, const char *text, size_t high) {
  char *end;
  unsigned long long value = strtoull(text, &end, 10);
  if (*text < '0' || *text > '9' || *end != '\0' || value < 1 || value > high) usage_error(name, text);
  return (size_t)value;
}

/* "0.5,1,10" as bytes, whole MiB. */
static void read_sizes(struct options *options, const char *text) {
  options->size_count = 0;
  for (const char *next = text; next != NULL; next = *next == ',' ? next + 1 : NULL) {
    char *end;
    double gib = strtod(next, &end);
    bool is_number = end != next && (*end == ',' || *end == '\0') && gib >= 0.0625 && gib <= 1024;
    if (!is_number || options->size_count == SIZES_MAX) usage_error("--gib", text);
    size_t bytes = (size_t)(gib * 1024) * MIB;
    if (options->size_count > 0 && bytes <= options->sizes[options->size_count - 1]) usage_error("--gib", text);
    options->sizes[options->size_count++] = bytes;
    next = end;
  }
}

static int show_list(void) {
  for (const struct shape *shape = shapes; shape->name != NULL; shape++)
    printf("%-10s%s\n", shape->name, shape->summary);
  return 0;
}

static void make_quick(struct options *options) {
  read_sizes(options, "1,10");
  options->request.steps = 200000;
  options->request.rounds = 3;
}

static void make_check(struct options *options) {
  read_sizes(options, "0.125,2");
  options->check = true;
  options->request.verify = true;
  options->request.steps = 4000;
  options->request.rounds = 1;
}

static void apply_option(struct options *options, int key) {
  struct request *request = &options->request;
  if (key == 'q') make_quick(options);
  if (key == 'c') make_check(options);
  if (key == 'g') read_sizes(options, optarg);
  if (key == 'o') options->only = optarg;
  if (key == 'j') options->json_path = optarg;
  if (key == 'n') request->steps = number_option("--steps", optarg, (size_t)1 << 40);
  if (key == 'r') request->rounds = number_option("--rounds", optarg, 32);
  if (key == 's') request->seed = number_option("--seed", optarg, SIZE_MAX);
  if (key == 'l') exit(show_list());
  if (key == 'h') exit(fputs(help, stdout) < 0);
  if (key == '?') exit(EXIT_USAGE);
}

static void read_options(struct options *options, int argc, char **argv) {
  static const struct option table[] = {
      {"gib", required_argument, NULL, 'g'},
      {"quick", no_argument, NULL, 'q'},
      {"check", no_argument, NULL, 'c'},
      {"only", required_argument, NULL, 'o'},
      {"steps", required_argument, NULL, 'n'},
      {"rounds", required_argument, NULL, 'r'},
      {"seed", required_argument, NULL, 's'},
      {"json", required_argument, NULL, 'j'},
      {"list", no_argument, NULL, 'l'},
      {"help", no_argument, NULL, 'h'},
      {NULL, 0, NULL, 0},
  };
  for (int key; (key = getopt_long(argc, argv, "", table, NULL)) != -1;) apply_option(options, key);
  if (optind < argc) usage_error("not an option", argv[optind]);
}

/* ---- checking ---- */

/* What one operation may cost on average, and the worst step of the shape, for each doubling of the number of spans in the
 * trees.  A search or insertion passes 1.4 log2 n nodes on average.  An allocation searches the two trees, before it asks
 * for a reclaim and after it, and files a rest; a free files what it merges: three to six passes for both together, so up
 * to 4.2 log2 n for one, where large trees of both sorts are searched; shapes here reach 2.2.  The worst step of thousands
 * meets the deepest places of both trees. */
static const double STEPS_PER_DOUBLING = 3, WORST_STEPS_PER_DOUBLING = 16;

/* An allocation looks at each of its pages at most twice to choose, and twice to split and to claim. */
static const double READS_PER_PAGE = 4;

static bool is_within(const struct result *result, const char *what, double value, double bound) {
  if (value <= bound) return true;
  fprintf(stderr, "bench_pageheap: %s, %.4g GiB, seed %llu: %s: %.2f, at most %.2f expected\n",
          result->request.shape->name, result->figures.arena_gib, (unsigned long long)result->request.seed, what, value,
          bound);
  return false;
}

static bool check_result(const struct result *result, const struct result *before) {
  const struct figures *figures = &result->figures;
  double doublings = log2(figures->tree_spans + 2);
  bool is_good =
      is_within(result, "tree steps an operation", figures->op_tree_steps, STEPS_PER_DOUBLING * doublings + 4);
  is_good &= is_within(result, "most tree steps", figures->worst_tree_steps, WORST_STEPS_PER_DOUBLING * doublings + 16);
  is_good &= is_within(result, "residency reads a page", figures->page_reads, READS_PER_PAGE);
  if (before == NULL) return is_good;
  double growth = doublings / log2(before->figures.tree_spans + 2);
  return is_good & is_within(result, "growth of tree steps", figures->op_tree_steps,
                             1.5 * growth * before->figures.op_tree_steps + 4);
}

/* ---- running ---- */

static int run_shape(const struct options *options, const struct shape *shape, struct result *results) {
  int failures = 0;
  for (size_t i = 0; i < options->size_count; i++) {
    struct result *result = &results[i];
    result->request = options->request;
    result->request.shape = shape;
    result->request.arena_bytes = options->sizes[i];
    if (measure(&result->request, &result->figures) != 0) {
      fprintf(stderr, "bench_pageheap: %s failed\n", shape->name);
      return failures + 1;
    }
    const struct result *before = i > 0 ? result - 1 : NULL;
    report_row(result, before);
    if (options->check && !check_result(result, before)) failures++;
  }
  return failures;
}

static int write_json(const char *path, const struct result *results, size_t count) {
  if (path == NULL) return 0;
  FILE *file = fopen(path, "w");
  if (file != NULL) report_json(file, results, count);
  if (file != NULL && fclose(file) == 0) return 0;
  perror(path);
  return 1;
}

int main(int argc, char **argv) {
  static struct result results[RESULTS_MAX];
  struct options options = {.request = {.steps = 500000, .rounds = 5, .seed = 1}};
  read_sizes(&options, "1,10,100");
  read_options(&options, argc, argv);
  size_t count = 0;
  int failures = 0;
  report_head();
  for (const struct shape *shape = shapes; shape->name != NULL; shape++) {
    if (options.only != NULL && strstr(shape->name, options.only) == NULL) continue;
    failures += run_shape(&options, shape, &results[count]);
    count += options.size_count;
  }
  if (count == 0) usage_error("no shape contains", options.only);
  failures += write_json(options.json_path, results, count);
  return failures > 0 ? EXIT_FAILED : 0;
}
