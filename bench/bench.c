/* bench: one benchmark program with memory managers as rows.
 *
 * It starts every measurement as a process of its own (a worker, one executable for each interface), lets the engines
 * alternate, repeats, and prints medians with their range and how midden compares to the stock collector.  See README.md
 * here for what is measured and how to read it. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/engines.h"
#include "driver/plan.h"
#include "driver/report.h"
#include "driver/series.h"

/* Where the build puts the drop-in, seen from the folder of this program. */
#ifndef BENCH_DROPIN_DIR
#define BENCH_DROPIN_DIR ".."
#endif

enum { EXIT_MEASUREMENT_FAILED = 1, EXIT_USAGE = 2, SERIES_MAX = 64 };

struct options {
  enum plan_set set;
  int repeats;             /* 0: by the set */
  unsigned timeout_s;      /* 0: by the set */
  const char *engine_list; /* NULL: by the workload */
  const char *baseline;
  const char *only; /* NULL: all; else a text that "workload parameters" must contain */
  const char *json_path;
  const char *worker_dir;
  bool list;
  struct plan_entry custom; /* one workload from the command line */
};

static const char help[] =
    "usage: bench [option...]                           a set of workloads\n"
    "       bench [option...] WORKLOAD [name=value...]  one workload\n"
    "\n"
    "  --quick          a small set, below a minute\n"
    "  --full           a large set, an hour\n"
    "  --latency        delays by live heap (16 MiB to 8 GiB) and by threads, hours\n"
    "  --repeat N       runs of each (default 5; 2 with --quick)\n"
    "  --engines LIST   of midden (or midden-stw),midden-barrier,midden-dirty,dropin,dropin-stw,stock,stock-serial,\n"
    "                   stock-parallel,stock-incremental,go,go-locked,malloc,control (default: by workload, what is "
    "installed)\n"
    "  --baseline NAME  what the others are compared with (default stock)\n"
    "  --only TEXT      only workloads whose name and parameters contain TEXT\n"
    "  --json FILE      writes everything there, too\n"
    "  --workers DIR    where the workers are (default: beside this program)\n"
    "  --dropin DIR     where midden's libgc.so.1 is\n"
    "  --stock DIR      where another libgc.so.1 is (default: the system's)\n"
    "  --timeout S      ends a run after S seconds (default 180; 900 with --latency)\n"
    "  --list           shows the set and the workloads with their parameters\n";

enum option_key {
  KEY_QUICK = 256,
  KEY_FULL,
  KEY_LATENCY,
  KEY_REPEAT,
  KEY_ENGINES,
  KEY_BASELINE,
  KEY_ONLY,
  KEY_JSON,
  KEY_WORKERS,
  KEY_DROPIN,
  KEY_STOCK,
  KEY_TIMEOUT,
  KEY_LIST,
  KEY_HELP
};

static const struct option option_table[] = {
    {"quick", no_argument, NULL, KEY_QUICK},
    {"full", no_argument, NULL, KEY_FULL},
    {"latency", no_argument, NULL, KEY_LATENCY},
    {"repeat", required_argument, NULL, KEY_REPEAT},
    {"engines", required_argument, NULL, KEY_ENGINES},
    {"baseline", required_argument, NULL, KEY_BASELINE},
    {"only", required_argument, NULL, KEY_ONLY},
    {"json", required_argument, NULL, KEY_JSON},
    {"workers", required_argument, NULL, KEY_WORKERS},
    {"dropin", required_argument, NULL, KEY_DROPIN},
    {"stock", required_argument, NULL, KEY_STOCK},
    {"timeout", required_argument, NULL, KEY_TIMEOUT},
    {"list", no_argument, NULL, KEY_LIST},
    {"help", no_argument, NULL, KEY_HELP},
    {NULL, 0, NULL, 0},
};

_Noreturn static void usage_error(const char *message, const char *what) {
  fprintf(stderr, "bench: %s: %s\n(bench --help shows the options)\n", message, what);
  exit(EXIT_USAGE);
}

static int number_option(const char *name, const char *text, int high) {
  char *end;
  long value = strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < 1 || value > high) usage_error(name, text);
  return (int)value;
}

static void apply_option(struct options *options, int key) {
  switch (key) {
    case KEY_QUICK:
      options->set = PLAN_QUICK;
      break;
    case KEY_FULL:
      options->set = PLAN_FULL;
      break;
    case KEY_LATENCY:
      options->set = PLAN_LATENCY;
      break;
    case KEY_REPEAT:
      options->repeats = number_option("--repeat", optarg, REPEATS_MAX);
      break;
    case KEY_ENGINES:
      options->engine_list = optarg;
      break;
    case KEY_BASELINE:
      options->baseline = optarg;
      break;
    case KEY_ONLY:
      options->only = optarg;
      break;
    case KEY_JSON:
      options->json_path = optarg;
      break;
    case KEY_WORKERS:
      options->worker_dir = optarg;
      break;
    case KEY_DROPIN:
      engines_set_dropin_dir(optarg);
      break;
    case KEY_STOCK:
      engines_set_stock_dir(optarg);
      break;
    case KEY_TIMEOUT:
      options->timeout_s = (unsigned)number_option("--timeout", optarg, 86400);
      break;
    case KEY_LIST:
      options->list = true;
      break;
    case KEY_HELP:
      fputs(help, stdout);
      exit(0);
    default:
      exit(EXIT_USAGE);
  }
}

/* The folder of this program. */
static const char *own_dir(void) {
  static char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) usage_error("cannot find my own folder", strerror(errno));
  path[length] = '\0';
  *strrchr(path, '/') = '\0';
  return path;
}

/* "WORKLOAD name=value..." as an entry of its own. */
static void read_custom(struct options *options, char **words) {
  static char parameters[256];
  if (*words == NULL) return;
  options->custom.workload = *words++;
  size_t used = 0;
  for (; *words != NULL; words++) {
    int length = snprintf(parameters + used, sizeof parameters - used, "%s%s", used == 0 ? "" : " ", *words);
    used += (size_t)length;
    if (used >= sizeof parameters) usage_error("too many parameters", *words);
  }
  options->custom.parameters = parameters;
  options->custom.sets = PLAN_QUICK | PLAN_DEFAULT | PLAN_FULL | PLAN_LATENCY;
}

static void read_options(struct options *options, int argc, char **argv) {
  static char dropin_dir[PATH_MAX + sizeof BENCH_DROPIN_DIR];
  options->worker_dir = own_dir();
  bool absolute = BENCH_DROPIN_DIR[0] == '/';
  snprintf(dropin_dir, sizeof dropin_dir, "%s%s%s", absolute ? "" : own_dir(), absolute ? "" : "/", BENCH_DROPIN_DIR);
  engines_set_dropin_dir(dropin_dir);
  for (int key; (key = getopt_long(argc, argv, "", option_table, NULL)) != -1;) apply_option(options, key);
  read_custom(options, argv + optind);
  if (options->repeats == 0) options->repeats = options->set == PLAN_QUICK ? 2 : 5;
  if (options->timeout_s == 0) options->timeout_s = options->set == PLAN_LATENCY ? 900 : 180;
}

static bool is_chosen(const struct options *options, const struct plan_entry *entry) {
  char title[320];
  snprintf(title, sizeof title, "%s %s", entry->workload, entry->parameters);
  return (entry->sets & options->set) != 0 && (options->only == NULL || strstr(title, options->only) != NULL);
}

/* The entries to run; returns how many. */
static int choose_entries(const struct options *options, const struct plan_entry **chosen) {
  int count = 0;
  if (options->custom.workload != NULL) {
    chosen[count++] = &options->custom;
    return count;
  }
  for (const struct plan_entry *entry = plan; entry->workload != NULL && count < SERIES_MAX; entry++) {
    if (is_chosen(options, entry)) chosen[count++] = entry;
  }
  return count;
}

static int show_list(const struct options *options, const struct plan_entry **chosen, int count) {
  for (int i = 0; i < count; i++) printf("%s %s\n", chosen[i]->workload, chosen[i]->parameters);
  char command[PATH_MAX];
  snprintf(command, sizeof command, "%s/worker-malloc", options->worker_dir);
  printf("\n");
  fflush(stdout);
  execl(command, command, "list", (char *)NULL);
  perror(command);
  return EXIT_MEASUREMENT_FAILED;
}

static const char *engines_of(const struct options *options, const struct plan_entry *entry) {
  return options->engine_list != NULL ? options->engine_list : plan_engines(entry->workload);
}

static int prepare_engines(const struct options *options, const struct plan_entry **chosen, int count) {
  int error = 0;
  for (int i = 0; i < count && error == 0; i++) error = engines_select(engines_of(options, chosen[i]));
  return error != 0 ? error : engines_probe(options->worker_dir, options->engine_list != NULL);
}

/* Runs all entries; returns 0 where every run succeeded. */
static int run_all(const struct options *options, const struct plan_entry **chosen, int count, struct series *series) {
  int failures = 0;
  for (int i = 0; i < count; i++) {
    if (series_run(&series[i], chosen[i], engines_of(options, chosen[i]), options->repeats, options->timeout_s) != 0)
      failures++;
    report_series(&series[i]);
  }
  if (failures != 0) fprintf(stderr, "bench: %d of %d workloads failed\n", failures, count);
  return failures;
}

static int write_json(const struct options *options, const struct series *series, int count, int baseline) {
  if (options->json_path == NULL) return 0;
  FILE *file = fopen(options->json_path, "w");
  if (file != NULL) report_json(file, series, count, baseline);
  if (file == NULL || fclose(file) != 0) {
    perror(options->json_path);
    return -EIO;
  }
  return 0;
}

int main(int argc, char **argv) {
  struct options options = {.set = PLAN_DEFAULT, .baseline = "stock"};
  read_options(&options, argc, argv);
  const struct engine *baseline = engines_find(options.baseline);
  if (baseline == NULL) usage_error("no such engine", options.baseline);
  const struct plan_entry *chosen[SERIES_MAX];
  int count = choose_entries(&options, chosen);
  if (count == 0) usage_error("no workload contains", options.only != NULL ? options.only : "");
  if (options.list) return show_list(&options, chosen, count);
  if (prepare_engines(&options, chosen, count) != 0) return EXIT_MEASUREMENT_FAILED;

  static struct series series[SERIES_MAX];
  int baseline_index = (int)(baseline - engines);
  bool failed = run_all(&options, chosen, count, series) != 0;
  if (baseline->selected) report_gains(series, count, baseline_index);
  failed = write_json(&options, series, count, baseline_index) != 0 || failed;
  for (int i = 0; i < count; i++) series_free(&series[i]);
  return failed ? EXIT_MEASUREMENT_FAILED : 0;
}
