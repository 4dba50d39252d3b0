#include "observe/trace_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "gc/markers.h"
#include "mutator/mutator.h"
#include "os/os.h"

enum {
  OPENING_BYTES = 1, /* the array's bracket */
  PATH_BYTES = 1024,
  EVENT_BYTES = 320,                            /* at most, for one event */
  EVENTS_MAX = 16 + MARKERS_MAX,                /* of one cycle */
  BUFFER_BYTES = EVENTS_MAX * (2 * EVENT_BYTES) /* a marker's first event comes with another, its name */
};

_Static_assert(MARKERS_MAX <= 64, "a bit for each marker");

static const char closing[] = "\n]\n";

static NOT_A_ROOT struct {
  struct lock lock;
  bool is_open;
  uint32_t process;           /* whose file it is */
  uint64_t offset;            /* of the closing bracket; the next event goes there */
  uint64_t named_markers;     /* a bit for each whose row has been given a name */
  char given[PATH_BYTES];     /* absolute; constant after start */
  char path[PATH_BYTES + 16]; /* of the file; in a fork's child not the given one */
  char text[BUFFER_BYTES];    /* one cycle's events */
  size_t length;
} trace = {.lock = LOCK_INIT(LOCK_RANK_LEAF)};

/* ---- the file ---- */

static int create_locked(void) {
  static const char empty[] = "[\n]\n";
  int error = os_create_file(trace.path);
  if (error == 0) error = os_write_file(trace.path, empty, sizeof empty - 1, 0);
  trace.process = os_process_id();
  trace.offset = OPENING_BYTES;
  trace.named_markers = 0;
  trace.length = 0;
  return error;
}

int trace_file_open(const char *path) {
  int error = os_absolute_path(path, trace.given, sizeof trace.given);
  if (error != 0) return error;
  strcpy(trace.path, trace.given);
  error = create_locked();
  trace.is_open = error == 0;
  return error;
}

/* The file is another's: of the parent, in a fork's child; or of a program that this one has started with its environment, and that has
 * emptied it. */
static bool has_lost_file_locked(void) {
  return trace.process != os_process_id() || !os_file_has_length(trace.path, trace.offset + sizeof closing - 1);
}

/* The other goes on with it, this one begins its own. */
static int keep_apart_locked(void) {
  if (!has_lost_file_locked()) return 0;
  snprintf(trace.path, sizeof trace.path, "%s.%u", trace.given, os_process_id());
  return create_locked();
}

static int flush_locked(void) {
  memcpy(trace.text + trace.length, closing, sizeof closing); /* room for it is kept, see append */
  int error = os_write_file(trace.path, trace.text, trace.length + sizeof closing - 1, trace.offset);
  trace.offset += trace.length;
  trace.length = 0;
  return error;
}

/* ---- events ---- */

PRINTF_LIKE(1, 2) static void append(const char *format, ...) {
  va_list arguments;
  size_t room = sizeof trace.text - sizeof closing - trace.length;
  va_start(arguments, format);
  int length = vsnprintf(trace.text + trace.length, room, format, arguments);
  va_end(arguments);
  if (length > 0 && (size_t)length < room) trace.length += (size_t)length;
}

/* Times are in microseconds; the rest are the digits behind the point. */
#define TIME_FORMAT "%llu.%03u"
#define TIME(ns) (unsigned long long)((ns) / 1000), (unsigned)((ns) % 1000)

struct event {
  const char *name;
  uint32_t thread;
  uint64_t start_ns, duration_ns;
};

/* Ends where the event's arguments would begin; the caller closes it. */
static void begin_event(const struct event *event) {
  bool first = trace.offset + trace.length == OPENING_BYTES;
  append("%s\n{\"name\":\"%s\",\"cat\":\"gc\",\"ph\":\"X\",\"pid\":%u,\"tid\":%u,\"ts\":" TIME_FORMAT
         ",\"dur\":" TIME_FORMAT,
         first ? "" : ",", event->name, trace.process, event->thread, TIME(event->start_ns), TIME(event->duration_ns));
}

static void add_phase(const char *name, uint32_t thread, uint64_t start_ns, uint64_t duration_ns) {
  begin_event(&(struct event){name, thread, start_ns, duration_ns});
  append("}");
}

static void add_cycle(const struct collector_report *report, uint32_t thread) {
  struct event event = {"collection", thread, report->start_ns, report->end_ns - report->start_ns};
  begin_event(&event);
  append(",\"args\":{\"number\":%llu,\"reason\":\"%s\",\"live_before\":%zu,\"marked\":%zu,\"goal\":%zu,\"objects\":%zu",
         (unsigned long long)report->number, collector_reason_name(report->reason), report->live_before_bytes,
         report->marked_bytes, report->goal_bytes, report->marked_objects);
  append(",\"threads\":%zu,\"signalled\":%zu}}", report->threads, report->signalled);
}

static void add_phases(const struct collector_report *report, uint32_t thread) {
  add_phase("sweep termination", thread, report->sweep_start_ns, report->sweep_before_ns);
  if (report->pause_ns != 0) add_phase("pause", thread, report->pause_start_ns, report->pause_ns);
  if (report->ahead_ns != 0) add_phase("pause for calls", thread, report->ahead_start_ns, report->ahead_ns);
  add_phase(report->concurrent ? "scan" : "stop", thread, report->stop_start_ns, report->stop_ns);
  add_phase("roots", thread, report->roots_start_ns, report->roots_ns);
  add_phase("mark", thread, report->roots_start_ns + report->roots_ns, report->mark_ns);
  add_phase("finish", thread, report->finish_start_ns, report->finish_ns);
  add_phase("sweep large", thread, report->end_ns - report->sweep_after_ns, report->sweep_after_ns);
}

static void name_row(uint32_t thread, unsigned marker) {
  append(",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"args\":{\"name\":\"midden-mark-%u\"}}",
         trace.process, thread, marker);
}

/* Marker 0 is the collecting thread, whose row shows the phases already. */
static void add_markers(const struct collector_report *report) {
  for (unsigned i = 1; i < report->markers; i++) {
    const struct marker_report *marker = &report->marker[i];
    if (marker->end_ns == 0) continue; /* it came too late */
    begin_event(&(struct event){"mark", marker->thread, marker->start_ns, marker->end_ns - marker->start_ns});
    append(",\"args\":{\"cpu_us\":%llu}}", (unsigned long long)marker->cpu_ns / 1000);
    if ((trace.named_markers >> i & 1) != 0) continue;
    trace.named_markers |= UINT64_C(1) << i;
    name_row(marker->thread, i);
  }
}

static void add_heap(uint64_t at_ns, size_t live_bytes, size_t goal_bytes) {
  append(",\n{\"name\":\"heap\",\"ph\":\"C\",\"pid\":%u,\"ts\":" TIME_FORMAT
         ",\"args\":{\"live\":%zu,\"until goal\":%zu}}",
         trace.process, TIME(at_ns), live_bytes, goal_bytes > live_bytes ? goal_bytes - live_bytes : 0);
}

static int write_cycle_locked(const struct collector_report *report) {
  int error = keep_apart_locked();
  if (error != 0) return error;
  uint32_t thread = os_thread_id();
  add_cycle(report, thread);
  add_phases(report, thread);
  add_markers(report);
  add_heap(report->live_before_ns, report->live_before_bytes, 0);
  add_heap(report->resume_ns, report->marked_bytes, report->goal_bytes);
  return flush_locked();
}

void trace_file_cycle(const struct collector_report *report) {
  struct mutator *self = mutator_self();
  mutator_enter(self);
  lock_acquire(&trace.lock);
  int error = trace.is_open ? write_cycle_locked(report) : 0;
  if (error != 0) trace.is_open = false;
  lock_release(&trace.lock);
  mutator_leave(self);
  if (error != 0) warn("the trace file %s cannot be written: %s", trace.path, strerror(-error));
}
