/* The trace file: complete JSON at every moment, an event for each cycle, phases inside their cycle, a file of its own for
 * a fork's child and where another program has taken it, and a message where it cannot be written. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "support/heap_test.h"

#include "gc/collector.h"
#include "observe/trace_file.h"

/* ---- a strict reader of JSON: walks one value, calls back for each member of an object of the outermost array ---- */

struct event {
  char name[64], phase[4];
  double start, duration; /* microseconds */
  unsigned process, thread;
};

enum { EVENTS_MAX = 4096 };

struct reader {
  const char *next;
  struct event events[EVENTS_MAX];
  size_t count;
};

static void skip_blanks(struct reader *reader) { reader->next += strspn(reader->next, " \t\r\n"); }

static void expect(struct reader *reader, char wanted) {
  skip_blanks(reader);
  REQUIRE(*reader->next == wanted, "wanted %c at: %.40s", wanted, reader->next);
  reader->next++;
}

static bool accept(struct reader *reader, char wanted) {
  skip_blanks(reader);
  if (*reader->next != wanted) return false;
  reader->next++;
  return true;
}

static void read_string(struct reader *reader, char *text, size_t capacity) {
  expect(reader, '"');
  size_t length = strcspn(reader->next, "\"");
  REQUIRE(length < capacity && memchr(reader->next, '\\', length) == NULL, "string: %.40s", reader->next);
  for (size_t i = 0; i < length; i++) REQUIRE((unsigned char)reader->next[i] >= 0x20, "a control character");
  memcpy(text, reader->next, length);
  text[length] = '\0';
  reader->next += length;
  expect(reader, '"');
}

static double read_number(struct reader *reader) {
  char *end;
  skip_blanks(reader);
  REQUIRE(*reader->next >= '0' && *reader->next <= '9', "wanted a number at: %.40s", reader->next);
  double number = strtod(reader->next, &end);
  reader->next = end;
  return number;
}

static void read_arguments(struct reader *reader) {
  char text[64];
  expect(reader, '{');
  do {
    read_string(reader, text, sizeof text);
    expect(reader, ':');
    skip_blanks(reader);
    if (*reader->next == '"') {
      read_string(reader, text, sizeof text);
    } else {
      read_number(reader);
    }
  } while (accept(reader, ','));
  expect(reader, '}');
}

static void read_member(struct reader *reader, struct event *event) {
  char key[16], text[64];
  read_string(reader, key, sizeof key);
  expect(reader, ':');
  if (strcmp(key, "name") == 0) {
    read_string(reader, event->name, sizeof event->name);
  } else if (strcmp(key, "ph") == 0) {
    read_string(reader, event->phase, sizeof event->phase);
  } else if (strcmp(key, "cat") == 0) {
    read_string(reader, text, sizeof text);
  } else if (strcmp(key, "args") == 0) {
    read_arguments(reader);
  } else if (strcmp(key, "ts") == 0) {
    event->start = read_number(reader);
  } else if (strcmp(key, "dur") == 0) {
    event->duration = read_number(reader);
  } else if (strcmp(key, "pid") == 0) {
    event->process = (unsigned)read_number(reader);
  } else {
    REQUIRE(strcmp(key, "tid") == 0, "member %s", key);
    event->thread = (unsigned)read_number(reader);
  }
}

static void read_event(struct reader *reader) {
  REQUIRE(reader->count < EVENTS_MAX, "too many events");
  struct event *event = &reader->events[reader->count++];
  *event = (struct event){.duration = -1};
  expect(reader, '{');
  do {
    read_member(reader, event);
  } while (accept(reader, ','));
  expect(reader, '}');
  REQUIRE(event->name[0] != '\0' && event->phase[0] != '\0' && event->process != 0, "an event lacks something");
  REQUIRE((strcmp(event->phase, "X") == 0) == (event->duration >= 0), "a duration is where none belongs, or lacks");
}

static struct reader *read_file(const char *path) {
  static char text[1 << 20];
  static struct reader reader;
  FILE *file = fopen(path, "r");
  REQUIRE(file != NULL, "%s: %s", path, strerror(errno));
  size_t length = fread(text, 1, sizeof text - 1, file);
  REQUIRE(length < sizeof text - 1, "%s is too long", path);
  fclose(file);
  text[length] = '\0';
  reader.next = text;
  reader.count = 0;
  expect(&reader, '[');
  if (!accept(&reader, ']')) {
    do {
      read_event(&reader);
    } while (accept(&reader, ','));
    expect(&reader, ']');
  }
  skip_blanks(&reader);
  REQUIRE(*reader.next == '\0', "more after the array: %.40s", reader.next);
  return &reader;
}

static size_t count_events(const struct reader *reader, const char *name) {
  size_t count = 0;
  for (size_t i = 0; i < reader->count; i++) count += strcmp(reader->events[i].name, name) == 0;
  return count;
}

/* Whether `inner` lies in `outer`; times are rounded to a nanosecond. */
static bool lies_in(const struct event *inner, const struct event *outer) {
  return inner->start >= outer->start - 0.002 &&
         inner->start + inner->duration <= outer->start + outer->duration + 0.002;
}

/* Each event with a duration lies in the cycle before it, and what is done in a stop lies in its pause: in a cycle that scanned
 * beside the program, which has no stop at its beginning, only the end. */
static void check_nesting(const struct reader *reader, unsigned process) {
  const struct event *cycle = NULL, *pause = NULL;
  bool beside = false;
  for (size_t i = 0; i < reader->count; i++) {
    const struct event *event = &reader->events[i];
    REQUIRE(event->process == process, "an event of process %u", event->process);
    if (strcmp(event->phase, "X") != 0) continue;
    if (strcmp(event->name, "collection") == 0) {
      cycle = event;
      pause = NULL;
      beside = false;
      continue;
    }
    REQUIRE(cycle != NULL && lies_in(event, cycle), "%s lies in no cycle", event->name);
    if (strcmp(event->name, "pause") == 0) pause = event;
    if (strcmp(event->name, "scan") == 0) beside = true;
    bool marking = strcmp(event->name, "roots") == 0 || strcmp(event->name, "mark") == 0;
    bool stopped = strcmp(event->name, "stop") == 0 || strcmp(event->name, "finish") == 0 || (marking && !beside);
    if (stopped) REQUIRE(pause != NULL && lies_in(event, pause), "%s lies in no pause", event->name);
  }
}

/* ---- tests ---- */

static char path[64];

static void check_own_file(void) {
  struct reader *reader = read_file(path);
  size_t collections = test_stats().collections;
  static const char *const phases[] = {"collection", "pause", "roots", "finish", "sweep termination", "sweep large"};
  for (size_t i = 0; i < TEST_COUNT_OF(phases); i++) assert_int_equal(count_events(reader, phases[i]), collections);
  assert_int_equal(count_events(reader, "stop") + count_events(reader, "scan"), collections);
  assert_int_equal(count_events(reader, "heap"), 2 * collections);
  assert_true(count_events(reader, "mark") >= collections);
  check_nesting(reader, (unsigned)getpid());
}

static void *keep(size_t count) {
  void **first = NULL;
  for (size_t i = 0; i < count; i++) {
    void **next = midden_alloc(64);
    *next = first;
    first = next;
  }
  return first;
}

static void test_every_cycle(void **state) {
  (void)state;
  check_own_file(); /* nothing yet, and complete already */
  for (int i = 0; i < 5; i++) {
    midden_collect();
    check_own_file();
  }
}

/* Enough to mark that helpers take part, and get rows with names. */
static void test_markers(void **state) {
  (void)state;
  void *volatile kept = keep(200000);
  for (int i = 0; i < 10; i++) midden_collect();
  (void)kept;
  check_own_file();
  struct reader *reader = read_file(path);
  assert_true(count_events(reader, "thread_name") <= 2);
}

static void *collect_often(void *argument) {
  for (int i = 0; i < 20; i++) midden_collect();
  return argument;
}

/* Reports of cycles that end shortly after each other come from different threads. */
static void test_threads(void **state) {
  (void)state;
  pthread_t threads[3];
  for (size_t i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, collect_often, NULL), 0);
  for (size_t i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  check_own_file();
}

static int collect_in_child(void *argument) {
  size_t before = test_stats().collections;
  for (int i = 0; i < 3; i++) midden_collect();
  char own[96];
  snprintf(own, sizeof own, "%s.%d", path, (int)getpid());
  struct reader *reader = read_file(own);
  REQUIRE(count_events(reader, "collection") == test_stats().collections - before, "cycles of the child are missing");
  check_nesting(reader, (unsigned)getpid());
  unlink(own);
  (void)argument;
  return 0;
}

static void test_fork(void **state) {
  (void)state;
  midden_collect();
  test_child_succeeds("a child", collect_in_child, NULL, 20);
  midden_collect();
  check_own_file();
}

/* A marker that came too late for the first cycle, unlike one after it. */
static int name_late_marker(void *argument) {
  enum { FIRST = 1000001, SECOND };
  struct marker_report late[3] = {{.thread = 0}, {.thread = 0}, {.thread = SECOND, .end_ns = 1}};
  struct marker_report both[3] = {{.thread = 0}, {.thread = FIRST, .end_ns = 1}, {.thread = SECOND, .end_ns = 1}};
  struct collector_report report = {.markers = 3, .marker = late};
  trace_file_cycle(&report);
  report.marker = both;
  trace_file_cycle(&report);
  trace_file_cycle(&report);
  char own[96];
  snprintf(own, sizeof own, "%s.%d", path, (int)getpid());
  struct reader *reader = read_file(own);
  unlink(own);
  size_t named[2] = {0};
  for (size_t i = 0; i < reader->count; i++) {
    if (strcmp(reader->events[i].name, "thread_name") == 0) named[reader->events[i].thread - FIRST]++;
  }
  REQUIRE(named[0] == 1 && named[1] == 1, "rows of markers were named %zu and %zu times", named[0], named[1]);
  (void)argument;
  return 0;
}

static void test_late_marker(void **state) {
  (void)state;
  test_child_succeeds("a child", name_late_marker, NULL, 20);
}

/* The program may close what it does not know, and go elsewhere. */
static void test_descriptors(void **state) {
  (void)state;
  char here[512];
  assert_non_null(getcwd(here, sizeof here));
  assert_int_equal(chdir("/"), 0);
  midden_collect();
  for (int i = 3; i < 64; i++) close(i);
  midden_collect();
  assert_int_equal(chdir(here), 0);
  check_own_file();
}

static int lose_file(void *argument) {
  (void)argument;
  midden_collect();
  char own[96];
  snprintf(own, sizeof own, "%s.%d", path, (int)getpid());
  unlink(own);
  midden_collect(); /* says so */
  midden_collect(); /* and says nothing more */
  return 0;
}

static void test_lost_file(void **state) {
  (void)state;
  struct test_outcome outcome = test_child(lose_file, NULL, 20);
  assert_true(WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0);
  const char *first = strstr(outcome.message, "cannot be written");
  assert_non_null(first);
  assert_null(strstr(first + 1, "cannot be written"));
}

static void empty_file(void) {
  FILE *file = fopen(path, "w");
  REQUIRE(file != NULL && fputs("[\n]\n", file) >= 0 && fclose(file) == 0, "%s: %s", path, strerror(errno));
}

/* As a program does that this one starts with its environment.  The last test: it has another file then. */
static void test_taken_file(void **state) {
  (void)state;
  midden_collect();
  empty_file();
  midden_collect();
  midden_collect();
  assert_int_equal(read_file(path)->count, 0);
  char own[96];
  snprintf(own, sizeof own, "%s.%d", path, (int)getpid());
  assert_int_equal(count_events(read_file(own), "collection"), 2);
  unlink(own);
}

int main(void) {
  char word[96];
  test_start("test_trace_file");
  snprintf(path, sizeof path, "test_trace_file.%d.json", (int)getpid());
  snprintf(word, sizeof word, "file:%s", path);
  setenv("MIDDEN_TRACE", word, 1);
  setenv("MIDDEN_MARKERS", "3", 1);
  setenv("MIDDEN_IDLE_COLLECT", "off", 1); /* a collection between two looks, where the machine is slow */
  REQUIRE(midden_init(NULL) == 0, "midden_init");
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_cycle), cmocka_unit_test(test_markers),    cmocka_unit_test(test_threads),
      cmocka_unit_test(test_late_marker), cmocka_unit_test(test_fork),       cmocka_unit_test(test_descriptors),
      cmocka_unit_test(test_lost_file),   cmocka_unit_test(test_taken_file),
  };
  int failed = test_run_group(tests);
  unlink(path);
  return failed;
}
