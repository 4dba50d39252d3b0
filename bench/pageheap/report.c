#include "report.h"

#include <math.h>

void report_head(void) {
  printf("%-9s %8s %10s %10s | %8s %17s %7s | %8s %7s %7s %6s | %6s %6s %6s | %8s\n", "shape", "GiB", "free spans",
         "in trees", "ns/op", "(low..high)", "ratio", "steps/op", "ratio", "/log2 n", "worst", "pages", "reads",
         "worst", "rss MiB");
}

static void print_ratio(double now, double before) {
  if (before > 0) {
    printf(" %7.2f", now / before);
  } else {
    printf(" %7s", "");
  }
}

void report_row(const struct result *result, const struct result *before) {
  const struct figures *figures = &result->figures;
  char range[32];
  snprintf(range, sizeof range, "(%.0f..%.0f)", figures->op_low_ns, figures->op_high_ns);
  printf("%-9s %8.4g %10.0f %10.0f | %8.1f %17s", result->request.shape->name, figures->arena_gib, figures->free_spans,
         figures->tree_spans, figures->op_ns, range);
  print_ratio(figures->op_ns, before != NULL ? before->figures.op_ns : 0);
  printf(" | %8.2f", figures->op_tree_steps);
  print_ratio(figures->op_tree_steps, before != NULL ? before->figures.op_tree_steps : 0);
  printf(" %7.2f %6.0f | %6.0f %6.2f %6.0f | %8.0f\n", figures->op_tree_steps / log2(figures->tree_spans + 2),
         figures->worst_tree_steps, figures->asked_pages, figures->page_reads, figures->worst_page_reads,
         figures->rss_mib);
  fflush(stdout);
}

static void print_result(FILE *file, const struct result *result) {
  const struct figures *figures = &result->figures;
  fprintf(file, "    {\"shape\": \"%s\", \"arena_gib\": %.9g, \"free_spans\": %.9g, \"tree_spans\": %.9g,",
          result->request.shape->name, figures->arena_gib, figures->free_spans, figures->tree_spans);
  fprintf(file, " \"op_ns\": {\"median\": %.9g, \"low\": %.9g, \"high\": %.9g},", figures->op_ns, figures->op_low_ns,
          figures->op_high_ns);
  fprintf(file, " \"op_tree_steps\": %.9g, \"worst_tree_steps\": %.9g,", figures->op_tree_steps,
          figures->worst_tree_steps);
  fprintf(file, " \"asked_pages\": %.9g, \"page_reads\": %.9g, \"worst_page_reads\": %.9g, \"refused\": %.9g,",
          figures->asked_pages, figures->page_reads, figures->worst_page_reads, figures->refused);
  fprintf(file, " \"rss_mib\": %.9g, \"span_mib\": %.9g, \"build_s\": %.9g,", figures->rss_mib, figures->span_mib,
          figures->build_s);
  fprintf(file, " \"steps\": %zu, \"rounds\": %zu, \"seed\": %llu}", result->request.steps, result->request.rounds,
          (unsigned long long)result->request.seed);
}

void report_json(FILE *file, const struct result *results, size_t count) {
  fprintf(file, "{\n  \"results\": [\n");
  for (size_t i = 0; i < count; i++) {
    print_result(file, &results[i]);
    fprintf(file, "%s\n", i + 1 < count ? "," : "");
  }
  fprintf(file, "  ]\n}\n");
}
