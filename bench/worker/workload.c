#include "worker/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

const char *workload_text(const struct workload *workload, const char *name) {
  for (const struct parameter *parameter = workload->parameters; parameter->name != NULL; parameter++) {
    if (strcmp(parameter->name, name) == 0) return parameter->value;
  }
  fprintf(stderr, "workload %s has no parameter %s\n", workload->name, name);
  exit(2);
}

static long unit_of(const char *suffix) {
  if (strcmp(suffix, "") == 0) return 1;
  if (strcmp(suffix, "K") == 0) return 1L << 10;
  if (strcmp(suffix, "M") == 0) return 1L << 20;
  if (strcmp(suffix, "G") == 0) return 1L << 30;
  return 0;
}

long workload_number(const struct workload *workload, const char *name, long low, long high) {
  const char *text = workload_text(workload, name);
  char *end;
  long number = strtol(text, &end, 10);
  long unit = unit_of(end), value;
  if (end == text || unit == 0 || __builtin_mul_overflow(number, unit, &value) || value < low || value > high) {
    fprintf(stderr, "%s: %s=%s is no number from %ld to %ld\n", workload->name, name, text, low, high);
    exit(2);
  }
  return value;
}

bool workload_choice(const struct workload *workload, const char *name, const char *yes, const char *no) {
  const char *text = workload_text(workload, name);
  if (strcmp(text, yes) == 0) return true;
  if (strcmp(text, no) == 0) return false;
  fprintf(stderr, "%s: %s=%s is neither %s nor %s\n", workload->name, name, text, yes, no);
  exit(2);
}

struct share {
  void (*work)(int index);
  int index;
};

static void *run_share(void *argument) {
  struct share *share = argument;
  share->work(share->index);
  return NULL;
}

void workload_parallel(int threads, void (*work)(int index)) {
  if (threads == 1) {
    work(0);
    return;
  }
  pthread_t handles[WORKLOAD_THREADS_MAX];
  struct share shares[WORKLOAD_THREADS_MAX];
  for (int i = 0; i < threads; i++) {
    shares[i] = (struct share){.work = work, .index = i};
    if (engine_thread_start(&handles[i], run_share, &shares[i]) != 0) workload_fail("no thread");
  }
  for (int i = 0; i < threads; i++) engine_thread_join(handles[i]);
}

void workload_fail(const char *what) {
  fprintf(stderr, "%s: %s\n", engine_name(), what);
  exit(1);
}

/* Memory that can be had without swapping, in KiB; 0 where the system does not tell. */
static size_t available_kib(void) {
  FILE *file = fopen("/proc/meminfo", "r");
  if (file == NULL) return 0;
  char line[128];
  size_t kib = 0;
  while (fgets(line, sizeof line, file) != NULL && sscanf(line, "MemAvailable: %zu kB", &kib) != 1) continue;
  fclose(file);
  return kib;
}

void workload_need_memory(size_t bytes) {
  size_t available = available_kib();
  if (available == 0 || bytes >> 10 <= available) return;
  fprintf(stderr, "%s: needs %zu MiB of memory, %zu are available: left out\n", engine_name(), bytes >> 20,
          available >> 10);
  exit(WORKLOAD_NOT_APPLICABLE);
}
