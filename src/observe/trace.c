#include "observe/trace.h"

#include <string.h>

#include "base/atomic.h"
#include "base/check.h"
#include "base/text.h"
#include "gc/collector.h"
#include "observe/check.h"
#include "observe/trace_file.h"
#include "os/os.h"

static bool prints; /* constant after start */

static double mib(size_t bytes) { return (double)bytes / (1 << 20); }
static double ms(uint64_t ns) { return (double)ns / 1e6; }

/* Nothing where check mode is off. */
static void add_check(struct text *text, const struct collector_report *report) {
  if (collector_checker == NULL) return;
  text_add(text, "; check %.3f ms, %zu suspects", ms(report->check_ns), atomic_load_relaxed(&check_suspects));
}

/* How long the program stood still. */
static void add_stopped(struct text *text, const struct collector_report *report) {
  text_add(text, "pause %.3f ms (stop %.3f, roots %.3f, mark %.3f, finish %.3f)", ms(report->pause_ns),
           ms(report->stop_ns), ms(report->roots_ns), ms(report->mark_ns), ms(report->finish_ns));
}

/* The stop at the end of dirty-page mode, and what made it short. */
static void add_stop_at_end(struct text *text, const struct collector_report *report) {
  if (report->joined != 0) text_add(text, ", %zu huge pages joined", report->joined);
  if (report->ahead_ns != 0) text_add(text, ", pause for calls %.3f ms", ms(report->ahead_ns));
  text_add(text, ", slowed %zu times, pause %.3f ms for %.1f MiB written", report->rests, ms(report->pause_ns),
           mib(report->written_bytes));
  if (report->left_ns != 0) text_add(text, ", then %.3f ms for finalizers", ms(report->left_ns));
}

/* What the program noticed. */
static void add_beside(struct text *text, const struct collector_report *report) {
  if (report->minor) text_add(text, "minor, ");
  text_add(text,
           "beside the program %.3f ms (scan %.3f, roots %.3f, mark %.3f in %u rounds, finish %.3f), gate %.3f ms, "
           "assists %.1f MiB in %.3f ms",
           ms(report->resume_ns - report->stop_start_ns), ms(report->stop_ns), ms(report->roots_ns),
           ms(report->mark_ns), report->rounds, ms(report->finish_ns), ms(report->gate_ns), mib(report->assisted_bytes),
           ms(report->assist_ns));
  if (report->pause_ns != 0) add_stop_at_end(text, report);
}

static void print_cycle(const struct collector_report *report) {
  const size_t *by = report->swept.swept_pages;
  struct text marking = {.length = 0}, check = {.length = 0};
  (report->concurrent ? add_beside : add_stopped)(&marking, report);
  add_check(&check, report);
  warn(
      "gc %llu @%.3fs: live %.1f -> %.1f MiB (%.1f scanned), goal %.1f MiB, %s, sweep %.3f+%.3f ms, cpu %.3f ms, "
      "%u markers, objects %zu, threads %zu/%zu, finalizers %zu, reason %s, put off %llu; "
      "before: %zu pages swept by cycle %zu, allocation %zu, free %zu, reclaim %zu, background %zu, debt %zu, "
      "next cycle %zu; %zu freed%s",
      (unsigned long long)report->number, (double)report->start_ns / 1e9, mib(report->live_before_bytes),
      mib(report->marked_bytes), mib(report->marked_scanned_bytes), mib(report->goal_bytes), marking.line,
      ms(report->sweep_before_ns), ms(report->sweep_after_ns), ms(report->cpu_ns), report->markers,
      report->marked_objects, report->signalled, report->threads, report->finalizers_ready,
      collector_reason_name(report->reason), (unsigned long long)report->limit_yields, report->swept.begun_pages,
      by[SWEEPER_COLLECTOR], by[SWEEPER_ALLOCATION], by[SWEEPER_FREE], by[SWEEPER_RECLAIM], by[SWEEPER_BACKGROUND],
      by[SWEEPER_DEBT], by[SWEEPER_NEXT_CYCLE], report->swept.freed_pages, check.line);
}

void trace_scavenge(const struct scavenger_report *report) {
  bool has_goal = report->goal_bytes != SIZE_MAX;
  warn(
      "scavenge %llu @%.3fs: released %.1f MiB (%zu huge pages, %.1f MiB for its age), resident %.1f -> %.1f MiB, "
      "goal %.1f MiB, cpu %.3f ms in %.3f s%s",
      (unsigned long long)report->number, (double)(report->start_ns - collector_start_ns()) / 1e9,
      mib(report->released_bytes), report->huge_pages, mib(report->old_bytes), mib(report->resident_before_bytes),
      mib(report->resident_after_bytes), has_goal ? mib(report->goal_bytes) : 0.0, ms(report->cpu_ns),
      (double)report->elapsed_ns / 1e9, report->refused ? ", refused by the system" : "");
}

void trace_release(uint64_t start_ns, size_t released_bytes, const struct pageheap_stats *after) {
  if (!prints) return;
  size_t resident_bytes = after->in_use_bytes + after->stack_bytes + pageheap_stats_idle_resident(after);
  warn("release @%.3fs: released %.1f MiB at once, resident %.1f MiB, %.3f ms",
       (double)(start_ns - collector_start_ns()) / 1e9, mib(released_bytes), mib(resident_bytes),
       ms(os_now_ns() - start_ns));
}

static void report_cycle(const struct collector_report *report) {
  if (prints) print_cycle(report);
  trace_file_cycle(report);
}

void trace_init(bool lines, const char *file) {
  prints = lines;
  int error = file != NULL ? trace_file_open(file) : 0;
  if (error != 0) warn("the trace file %s cannot be made: %s", file, strerror(-error));
  if (lines || file != NULL) collector_reporter = report_cycle;
}
