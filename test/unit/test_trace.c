/* The trace on standard error: one line for each collection, for each episode of the scavenger and for each release that
 * the program asks for, of the form that docs/trace.md shows; there each field has its row; and figures that fit each
 * other.
 *
 * A child runs with the trace on and writes what it knows of itself as its last line. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "gc/scavenger.h"
#include "support/heap_test.h"

enum { IDLE_COLLECT_MS = 300, TEXT_MAX = 64 << 10, LAST_BREATH_BYTES = 5 << 20 };

/* ---- lines and their form ---- */

/* A line with each number as one 0, each reason as one word. */
static void form_of(char *form, size_t bytes, const char *line) {
  static const char *const reasons[] = {"reason heap", "reason forced", "reason idle", "reason out of memory"};
  size_t length = 0;
  while (*line != '\0' && *line != '\n' && length + 16 < bytes) {
    size_t digits = strspn(line, "0123456789.");
    for (size_t i = 0; i < TEST_COUNT_OF(reasons) && digits == 0; i++) {
      if (strncmp(line, reasons[i], strlen(reasons[i])) != 0) continue;
      length += (size_t)snprintf(form + length, bytes - length, "reason");
      line += strlen(reasons[i]);
    }
    if (digits == 0) form[length++] = *line++;
    if (digits != 0) form[length++] = '0';
    line += digits;
  }
  form[length] = '\0';
}

static char document[TEXT_MAX];

static void read_document(void) {
  FILE *file = fopen(TRACE_DOCUMENT, "r");
  REQUIRE(file != NULL, "%s cannot be read", TRACE_DOCUMENT);
  document[fread(document, 1, sizeof(document) - 1, file)] = '\0';
  fclose(file);
}

/* The line that the document shows; it begins so. */
static const char *shown(const char *kind) {
  const char *line = strstr(document, kind);
  REQUIRE(line != NULL, "the document shows no line of the kind \"%s\"", kind);
  return line;
}

/* Whether a row of the table behind the line shown has a field for this part of it. */
static bool has_row(const char *line, const char *part, size_t part_bytes) {
  const char *end = strstr(line, "\n## ");
  for (const char *row = strstr(line, "\n| `"); row != NULL && (end == NULL || row < end); row = strstr(row, "\n| `")) {
    row += strlen("\n| `");
    size_t field_bytes = strcspn(row, "`");
    for (size_t i = 0; i + field_bytes <= part_bytes; i++) {
      if (strncmp(part + i, row, field_bytes) == 0) return true;
    }
  }
  return false;
}

/* Parts are separated by commas and brackets.  What follows the semicolon is one field. */
static void check_rows(const char *kind) {
  const char *line = shown(kind), *part = line + strlen("midden: ");
  size_t length = strcspn(line, "\n");
  while (part < line + length) {
    size_t bytes = strcspn(part, ",():;\n");
    if (part[0] != ' ' || bytes > 1)
      REQUIRE(bytes == 0 || has_row(line, part, bytes), "no row for: %.*s", (int)bytes, part);
    if (part[bytes] == ';') break;
    part += bytes + 1;
  }
}

static void check_form(const char *kind, const char *line) {
  char have[1024], want[1024];
  form_of(have, sizeof(have), line);
  form_of(want, sizeof(want), shown(kind));
  REQUIRE(strcmp(have, want) == 0, "the line is\n%s\nand the document says\n%s", have, want);
}

/* ---- what the lines say ---- */

static double number_after(const char *line, const char *label) {
  const char *found = strstr(line, label);
  REQUIRE(found != NULL, "no \"%s\" in: %.200s", label, line);
  return strtod(found + strlen(label), NULL);
}

static void check_cycle(const char *line) {
  static const char *const sweepers[] = {"swept by cycle ", "allocation ", "free ",      "reclaim ",
                                         "background ",     "debt ",       "next cycle "};
  double parts_ms = number_after(line, "stop ") + number_after(line, "roots ") + number_after(line, "mark ") +
                    number_after(line, "finish ");
  REQUIRE(number_after(line, "pause ") + 0.003 >= parts_ms, "a pause shorter than its parts: %.200s", line);
  const char *before = strstr(line, "before: ");
  double swept = 0;
  for (size_t i = 0; i < TEST_COUNT_OF(sweepers); i++) swept += number_after(before, sweepers[i]);
  REQUIRE(number_after(before, "before: ") == swept, "pages unswept, or swept twice: %s", before);
}

/* Lines of two threads' collections may change places; none is missing, none comes twice. */
static unsigned check_cycles(const char *text) {
  uint64_t numbers = 0;
  unsigned count = 0;
  for (const char *line = text; (line = strstr(line, "midden: gc ")) != NULL; line++) {
    check_form("midden: gc ", line);
    check_cycle(line);
    numbers |= (uint64_t)1 << (unsigned)number_after(line, "gc ");
    count++;
  }
  REQUIRE(numbers == ((uint64_t)2 << count) - 2, "%u lines with other numbers than 1 to %u: %s", count, count, text);
  return count;
}

/* Lines of episodes or releases; *released_mib is the sum of what they gave back. */
static unsigned check_released(const char *text, const char *kind, double *released_mib) {
  unsigned count = 0;
  *released_mib = 0;
  for (const char *line = text; (line = strstr(line, kind)) != NULL; line++) {
    check_form(kind, line);
    *released_mib += number_after(line, "released ");
    count++;
  }
  return count;
}

/* ---- the child ---- */

static void *volatile kept;
static void (*report)(const struct scavenger_report *); /* as the library set it */
static unsigned reported;                               /* atomic; episodes whose line is written */

/* The emulator of another processor cannot fork with a thread in the background. */
static bool has_background(void) { return test_environment_number("MIDDEN_BACKGROUND", 1) != 0; }

static void report_and_count(const struct scavenger_report *episode) {
  report(episode);
  atomic_add_acq_rel(&reported, 1u);
}

static void start(void) {
  struct midden_options options = {.size = sizeof options, .trace = 1, .idle_collect_ms = IDLE_COLLECT_MS};
  REQUIRE(midden_init(&options) == 0, "midden_init");
  report = heap_scavenger.report;
  heap_scavenger.report = report_and_count;
}

static void allocate(size_t bytes) {
  for (size_t i = 0; i < bytes / 512; i++) {
    void **object = midden_alloc(512);
    REQUIRE(object != NULL, "no memory");
    *object = kept;
    kept = object;
  }
}

static void *collect_twice(void *unused) {
  (void)unused;
  for (int i = 0; i < 2; i++) midden_collect();
  return NULL;
}

static void collect_in_two_threads(void) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, collect_twice, NULL) == 0, "no thread");
  collect_twice(NULL);
  pthread_join(thread, NULL);
}

static void pause_ms(long ms) { nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL); }

/* Until nothing more is given back: what is under way has its line later. */
static void wait_for_silence(void) {
  enum { SILENT_MS = 500, STEP_MS = 20 };
  size_t released = test_stats().released_total;
  for (int quiet_ms = 0; quiet_ms < SILENT_MS; quiet_ms += STEP_MS) {
    pause_ms(STEP_MS);
    size_t now = test_stats().released_total;
    if (now != released) quiet_ms = 0;
    released = now;
  }
}

/* Until the idle program was collected and its memory has gone.  On a slow machine it may have looked idle before, and what it
 * dropped be within the goal afterwards: then nothing comes, and the lines are those of earlier episodes. */
static void drop_and_rest(void) {
  uint64_t collections = test_stats().collections;
  unsigned before = atomic_load_acquire(&reported);
  kept = NULL;
  allocate(LAST_BREATH_BYTES);
  for (int i = 0; has_background() && i < 500; i++) {
    if (test_stats().collections != collections && atomic_load_acquire(&reported) != before) break;
    pause_ms(20);
  }
  wait_for_silence();
}

static int run_traced(void *unused) {
  (void)unused;
  start();
  allocate(24 << 20);
  collect_in_two_threads();
  kept = NULL;
  test_collect_clean();
  size_t asked_bytes = midden_release_memory();
  allocate(32 << 20);
  drop_and_rest();
  struct midden_stats stats = test_stats();
  dprintf(STDERR_FILENO, "collections=%llu episodes=%u asked=%.1f released=%.1f\n",
          (unsigned long long)stats.collections, atomic_load_acquire(&reported), (double)asked_bytes / (1 << 20),
          (double)stats.released_total / (1 << 20));
  return 0;
}

static void a_line_for_each(void **state) {
  (void)state;
  struct test_outcome outcome = test_child(run_traced, NULL, 100);
  const char *text = outcome.message;
  REQUIRE(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0, "%s", text);
  double scavenged_mib, asked_mib;
  assert_true(check_cycles(text) == number_after(text, "collections="));
  unsigned episodes = check_released(text, "midden: scavenge ", &scavenged_mib);
  assert_true(episodes == number_after(text, "episodes="));
  assert_int_equal(check_released(text, "midden: release ", &asked_mib), 1);
  assert_true(asked_mib == number_after(text, "asked="));
  double total_mib = number_after(text, "released="), rounding_mib = 0.05 * (episodes + 2);
  REQUIRE(
      scavenged_mib + asked_mib <= total_mib + rounding_mib && scavenged_mib + asked_mib >= total_mib - rounding_mib,
      "%.1f MiB given back by the lines, %.1f in all", scavenged_mib + asked_mib, total_mib);
}

static void each_field_has_a_row(void **state) {
  (void)state;
  check_rows("midden: gc ");
  check_rows("midden: scavenge ");
  check_rows("midden: release ");
}

int main(void) {
  unsetenv("MIDDEN_DEBUG"); /* check mode adds to the lines */
  read_document();
  const struct CMUnitTest tests[] = {cmocka_unit_test(each_field_has_a_row), cmocka_unit_test(a_line_for_each)};
  return test_run_group(tests);
}
