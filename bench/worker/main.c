/* A worker: one engine, one workload, one result line.
 *
 *   worker-ENGINE info [name=value...]       which engine, loaded from which file
 *   worker-ENGINE list                       the workloads and their parameters
 *   worker-ENGINE WORKLOAD [name=value...]   runs it
 *
 * Exit status 0 with one line on standard output; 1 where the workload failed; 2 where it was called wrongly; 3 where the
 * workload makes no sense with this engine. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "worker/measure.h"
#include "worker/result.h"
#include "worker/workload.h"

enum { EXIT_USAGE = 2 };

extern struct workload workload_alloc, workload_gcbench, workload_graph, workload_latency, workload_mutate,
    workload_machine, workload_queue, workload_specials, workload_spike, workload_stores, workload_trees;

static struct workload *const workloads[] = {&workload_trees,   &workload_gcbench, &workload_alloc,    &workload_graph,
                                             &workload_queue,   &workload_mutate,  &workload_specials, &workload_spike,
                                             &workload_latency, &workload_stores,  &workload_machine};
enum { WORKLOAD_COUNT = sizeof workloads / sizeof workloads[0] };

static struct workload common = {
    .name = "worker", .parameters = {{"markers", "0"}, {"heap", "0"}, {"mode", "default"}, {"events", "yes"}}};

/* The real path of the file that the engine's code was loaded from, as the loader sees it: no guess from the
 * environment. */
static void report_library(void) {
  Dl_info info;
  void *symbol = dlsym(RTLD_DEFAULT, engine_symbol());
  if (symbol == NULL || dladdr(symbol, &info) == 0) {
    result_text("library", "static");
    return;
  }
  char *path = realpath(info.dli_fname, NULL);
  result_text("library", path != NULL ? path : info.dli_fname);
  free(path);
}

static void list_workloads(void) {
  for (int i = 0; i < WORKLOAD_COUNT; i++) {
    printf("%-8s %s\n        ", workloads[i]->name, workloads[i]->about);
    for (const struct parameter *p = workloads[i]->parameters; p->name != NULL; p++)
      printf(" %s=%s", p->name, p->value);
    for (const struct parameter *p = common.parameters; p->name != NULL; p++) printf(" %s=%s", p->name, p->value);
    printf("\n");
  }
}

static struct workload *find_workload(const char *name) {
  for (int i = 0; i < WORKLOAD_COUNT; i++) {
    if (strcmp(workloads[i]->name, name) == 0) return workloads[i];
  }
  return NULL;
}

static bool set_parameter(struct workload *workload, const char *assignment) {
  const char *equals = strchr(assignment, '=');
  if (equals == NULL) return false;
  size_t length = (size_t)(equals - assignment);
  for (struct parameter *p = workload->parameters; p->name != NULL; p++) {
    if (strlen(p->name) == length && strncmp(p->name, assignment, length) == 0) {
      p->value = equals + 1;
      return true;
    }
  }
  return false;
}

static void set_parameters(struct workload *workload, char **assignments) {
  for (; *assignments != NULL; assignments++) {
    if (set_parameter(workload, *assignments) || set_parameter(&common, *assignments)) continue;
    fprintf(stderr, "%s: no such parameter: %s\n", workload->name, *assignments);
    exit(EXIT_USAGE);
  }
}

static void start(void) {
  const struct engine_setup setup = {
      .markers = (unsigned)workload_number(&common, "markers", 0, WORKLOAD_THREADS_MAX),
      .heap_bytes = (size_t)workload_number(&common, "heap", 0, 1L << 40),
      .mode = workload_text(&common, "mode"),
      .events = workload_choice(&common, "events", "yes", "no"),
  };
  measure_init();
  engine_start(&setup);
  result_text("engine", engine_name());
  report_library();
}

static int run_workload(struct workload *workload, char **assignments) {
  if (workload->collector_only && !ENGINE_COLLECTS) return WORKLOAD_NOT_APPLICABLE;
  set_parameters(workload, assignments);
  start();
  workload->run(workload);
  engine_report();
  result_print();
  return 0;
}

static int show_info(char **assignments) {
  set_parameters(&common, assignments);
  start();
  result_print();
  return 0;
}

int main(int argc, char **argv) {
  if (argc >= 2 && strcmp(argv[1], "info") == 0) return show_info(argv + 2);
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    list_workloads();
    return 0;
  }
  struct workload *workload = argc >= 2 ? find_workload(argv[1]) : NULL;
  if (workload == NULL) {
    fprintf(stderr, "usage: %s info [name=value...] | list | WORKLOAD [name=value...]\n", argv[0]);
    return EXIT_USAGE;
  }
  return run_workload(workload, argv + 2);
}
