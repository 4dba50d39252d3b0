#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "driver/report.h"

static void print_text(FILE *file, const char *text) {
  fputc('"', file);
  for (; *text != '\0'; text++) {
    if (*text == '"' || *text == '\\') fputc('\\', file);
    if ((unsigned char)*text >= ' ') fputc(*text, file);
  }
  fputc('"', file);
}

static void print_member(FILE *file, const char *name, const char *text) {
  fprintf(file, "\"%s\": ", name);
  print_text(file, text);
}

/* The processor's name, or "unknown". */
static void processor_name(char *name, size_t name_bytes) {
  snprintf(name, name_bytes, "unknown");
  FILE *file = fopen("/proc/cpuinfo", "r");
  if (file == NULL) return;
  char line[256];
  while (fgets(line, sizeof line, file) != NULL) {
    char *colon = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
    if (colon == NULL) continue;
    colon[strcspn(colon, "\n")] = '\0';
    snprintf(name, name_bytes, "%s", colon + 2);
    break;
  }
  fclose(file);
}

static void print_machine(FILE *file) {
  char processor[128], date[32];
  struct utsname system = {0};
  time_t now = time(NULL);
  uname(&system);
  processor_name(processor, sizeof processor);
  strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
  fprintf(file, "  ");
  print_member(file, "date", date);
  fprintf(file, ",\n  \"machine\": {");
  print_member(file, "processor", processor);
  fprintf(file, ", \"processors\": %ld, ", sysconf(_SC_NPROCESSORS_ONLN));
  print_member(file, "system", system.sysname);
  fprintf(file, ", ");
  print_member(file, "release", system.release);
  fprintf(file, ", ");
  print_member(file, "architecture", system.machine);
  fprintf(file, ", \"memory_mib\": %ld}", sysconf(_SC_PHYS_PAGES) / (1048576 / sysconf(_SC_PAGESIZE)));
}

static void print_engines(FILE *file) {
  fprintf(file, ",\n  \"engines\": {");
  const char *separator = "";
  for (int i = 0; i < ENGINE_COUNT; i++) {
    if (!engines[i].selected) continue;
    fprintf(file, "%s\n    \"%s\": {", separator, engines[i].name);
    print_member(file, "version", engines[i].description);
    fprintf(file, ", ");
    print_member(file, "library", engines[i].library);
    fprintf(file, "}");
    separator = ",";
  }
  fprintf(file, "\n  }");
}

static void print_run(FILE *file, const struct record *record) {
  fprintf(file, "{");
  for (int i = 0; i < record->count; i++) {
    fprintf(file, "%s\"%s\": %.9g", i == 0 ? "" : ", ", record->figures[i].name, record->figures[i].value);
  }
  fprintf(file, "}");
}

static void print_summary(FILE *file, const char *name, const struct summary *summary) {
  fprintf(file, "\"%s\": {\"median\": %.9g, \"low\": %.9g, \"high\": %.9g}", name, summary->median, summary->low,
          summary->high);
}

/* The figures of an engine are those of its first run: all of its runs have the same. */
static void print_summaries(FILE *file, const struct series *series, int engine) {
  const struct record *first = &series->runs[engine][0];
  for (int i = 0; i < first->count; i++) {
    struct summary summary;
    if (!series_summary(series, engine, first->figures[i].name, &summary)) continue;
    fprintf(file, "%s", i == 0 ? "" : ", ");
    print_summary(file, first->figures[i].name, &summary);
  }
}

static void print_gains(FILE *file, const struct series *series, int engine, int baseline) {
  const struct record *first = &series->runs[engine][0];
  const char *separator = "";
  for (int i = 0; i < first->count; i++) {
    struct summary gain;
    if (!series_gain(series, engine, baseline, first->figures[i].name, &gain)) continue;
    fprintf(file, "%s", separator);
    print_summary(file, first->figures[i].name, &gain);
    separator = ", ";
  }
}

static void print_engine_runs(FILE *file, const struct series *series, int engine, int baseline) {
  fprintf(file, "\n      \"%s\": {\n        \"summary\": {", engines[engine].name);
  print_summaries(file, series, engine);
  fprintf(file, "},\n        \"gain\": {");
  if (engine != baseline && series->present[baseline]) print_gains(file, series, engine, baseline);
  fprintf(file, "},\n        \"runs\": [");
  for (int i = 0; i < series->repeats; i++) {
    fprintf(file, "%s\n          ", i == 0 ? "" : ",");
    print_run(file, &series->runs[engine][i]);
  }
  fprintf(file, "]}");
}

static void print_series(FILE *file, const struct series *series, int baseline) {
  fprintf(file, "    {");
  print_member(file, "workload", series->entry->workload);
  fprintf(file, ", ");
  print_member(file, "parameters", series->entry->parameters);
  fprintf(file, ", \"engines\": {");
  const char *separator = "";
  for (int engine = 0; engine < ENGINE_COUNT; engine++) {
    if (!series->present[engine]) continue;
    fprintf(file, "%s", separator);
    print_engine_runs(file, series, engine, baseline);
    separator = ",";
  }
  fprintf(file, "}}");
}

void report_json(FILE *file, const struct series *series, int count, int baseline) {
  fprintf(file, "{\n");
  print_machine(file);
  print_engines(file);
  fprintf(file, ",\n  ");
  print_member(file, "baseline", engines[baseline].name);
  fprintf(file, ",\n  \"results\": [\n");
  for (int i = 0; i < count; i++) {
    print_series(file, &series[i], baseline);
    fprintf(file, "%s\n", i + 1 < count ? "," : "");
  }
  fprintf(file, "  ]\n}\n");
}
