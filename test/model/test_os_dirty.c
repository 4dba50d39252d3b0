/* Which pages were written, against naive references: random writes, releases, guards, protections and scans over a
 * range with small and with huge pages, and a byte array that says of each page whether it must and whether it may be
 * reported; then threads that write while another scans and keeps a copy of what was reported. */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/atomic.h"
#include "base/bits.h"
#include "os/os_dirty.h"
#include "support/heap_test.h"
#include "support/os_dirty_test.h"

enum { PAGES_MAX = 8192, ARRAY_MAX = 40, READ_MAX = 40 };

#define RANGE_BYTES ((size_t)16 << 20)

/* The reference.  `must` implies `may`.  A page that may be empty becomes written with its neighbours where a huge
 * page comes to stand; with small pages the two are always the same. */
struct model {
  struct rng rng;
  char *start;
  size_t page_bytes;
  size_t pages;
  size_t unit; /* pages that may become written together */
  bool reads_give_memory;
  int file; /* READ_MAX pages without zeros */
  bool must[PAGES_MAX];
  bool may[PAGES_MAX];
  bool may_be_empty[PAGES_MAX];
  bool guarded[PAGES_MAX];
};

static struct model model;

/* ---- the reference ---- */

static void expect_empty_neighbours(size_t page) {
  size_t first = round_down(page, model.unit);
  for (size_t i = first; i < first + model.unit; i++) model.may[i] |= model.may_be_empty[i] && !model.guarded[i];
}

static void expect_written(size_t page) {
  if (model.may_be_empty[page]) expect_empty_neighbours(page);
  model.must[page] = model.may[page] = true;
  model.may_be_empty[page] = false;
}

static void expect_clean(size_t page) {
  if (model.must[page]) model.may_be_empty[page] = false;
  model.must[page] = model.may[page] = false;
}

static void expect_empty(size_t page) {
  model.must[page] = model.may[page] = false;
  model.may_be_empty[page] = true;
}

static char *page_at(size_t page) { return model.start + page * model.page_bytes; }

static bool holds_zeros(size_t page) {
  const uint64_t *word = (const uint64_t *)(const void *)page_at(page);
  for (size_t i = 0; i < model.page_bytes / sizeof *word; i++) {
    if (word[i] != 0) return false;
  }
  return true;
}

/* What a scan says of a page is so until something happens.  When the kernel takes a huge page apart, what holds zeros
 * becomes empty. */
static void learn(size_t page, bool is_written) {
  bool was_emptied = !is_written && model.must[page] && model.unit > 1 && holds_zeros(page);
  REQUIRE(is_written || !model.must[page] || was_emptied, "page %zu was written, and is not reported", page);
  REQUIRE(!is_written || model.may[page] || model.guarded[page], "page %zu was not written, and is reported", page);
  if (model.guarded[page]) return;
  model.must[page] = is_written;
  model.may[page] = is_written || (was_emptied && model.reads_give_memory); /* it was just read */
  if (is_written) model.may_be_empty[page] = false;
}

/* ---- operations: each on a run of pages ---- */

struct run {
  size_t first, count;
};

static struct run random_run(size_t longest) {
  size_t count = rng_size(&model.rng, longest);
  return (struct run){rng_below(&model.rng, model.pages - count + 1), count};
}

static bool has_guard(struct run run) {
  for (size_t i = run.first; i < run.first + run.count; i++) {
    if (model.guarded[i]) return true;
  }
  return false;
}

static void expect_run(struct run run, void (*expect)(size_t page)) {
  for (size_t i = run.first; i < run.first + run.count; i++) expect(i);
}

static void store(struct run run) {
  for (size_t i = run.first; i < run.first + run.count; i++)
    ((volatile char *)page_at(i))[rng_below(&model.rng, model.page_bytes)] = 1;
  expect_run(run, expect_written);
}

static void store_by_system_call(struct run run) {
  size_t bytes = run.count * model.page_bytes;
  REQUIRE(pread(model.file, page_at(run.first), bytes, 0) == (ssize_t)bytes, "read: %s", strerror(errno));
  expect_run(run, expect_written);
}

static void *set_run(void *argument) {
  const struct run *run = argument;
  return memset(page_at(run->first), 2, run->count * model.page_bytes);
}

static void store_in_other_thread(struct run run) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, set_run, &run) == 0, "pthread_create");
  pthread_join(thread, NULL);
  expect_run(run, expect_written);
}

static void expect_read(size_t page) {
  if (model.may_be_empty[page] && (model.unit > 1 || model.reads_give_memory)) expect_empty_neighbours(page);
}

static void load(struct run run) {
  for (size_t i = run.first; i < run.first + run.count; i++) (void)*(volatile char *)page_at(i);
  expect_run(run, expect_read);
}

static void populate(struct run run) {
  os_populate(page_at(run.first), run.count * model.page_bytes);
  expect_run(run, expect_written);
}

static void release(struct run run) {
  REQUIRE(os_release(page_at(run.first), run.count * model.page_bytes) == 0, "release");
  expect_run(run, expect_empty);
}

static void guard(struct run run) {
  REQUIRE(os_guard(page_at(run.first), run.count * model.page_bytes) == 0, "guard");
  expect_run(run, expect_empty);
  for (size_t i = run.first; i < run.first + run.count; i++) model.guarded[i] = true;
}

static void unguard(struct run run) {
  REQUIRE(os_unguard(page_at(run.first), run.count * model.page_bytes) == 0, "unguard");
  for (size_t i = run.first; i < run.first + run.count; i++) model.guarded[i] = false;
}

static void protect(struct run run) {
  REQUIRE(os_dirty_protect(page_at(run.first), run.count * model.page_bytes) == 0, "protect");
  expect_run(run, expect_clean);
}

static bool may_all_be_empty(struct run run) {
  for (size_t i = run.first; i < run.first + run.count; i++) {
    if (!model.may_be_empty[i]) return false;
  }
  return true;
}

/* Whole huge pages.  Where that is refused, the pages may be written to freely all the same; and what was the huge page of
 * zeros may stay that. */
static void join(struct run run) {
  if (model.unit == 1) return;
  run.first = round_down(run.first, model.unit);
  run.count = model.unit;
  if (has_guard(run)) return;
  bool may_be_zeros = may_all_be_empty(run);
  bool is_joined = os_dirty_join(page_at(run.first), run.count * model.page_bytes) == 0 && !may_be_zeros;
  for (size_t i = run.first; i < run.first + run.count; i++) {
    if (is_joined || !model.may_be_empty[i]) expect_written(i);
    model.may[i] = true;
  }
}

static void allow(struct run run) {
  REQUIRE(os_dirty_allow(page_at(run.first), run.count * model.page_bytes) == 0, "allow");
  for (size_t i = run.first; i < run.first + run.count; i++) {
    if (!model.may_be_empty[i]) expect_written(i);
    model.may[i] = true;
  }
}

/* The kernel takes huge pages apart where a run cuts them, as it does when memory runs short. */
static void cool(struct run run) { madvise(page_at(run.first), run.count * model.page_bytes, 20); } /* MADV_COLD */

/* Cuts the mapping in pieces. */
static void advise(struct run run) {
  if (model.unit == 1) return;
  os_advise_huge(page_at(run.first), run.count * model.page_bytes, rng_one_in(&model.rng, 2));
}

static void watch(struct run run) {
  REQUIRE(os_dirty_watch(page_at(run.first), run.count * model.page_bytes) == 0, "watch");
}

/* ---- scans ---- */

/* Takes the runs of one call, which begin at `page`; returns the page after the last of them. */
static size_t learn_runs(const struct os_range *written, size_t count, size_t page) {
  for (size_t i = 0; i < count; i++) {
    size_t first = (written[i].start - (uintptr_t)model.start) / model.page_bytes;
    size_t end = (written[i].end - (uintptr_t)model.start) / model.page_bytes;
    REQUIRE(first < end && (i == 0 ? first >= page : first > page), "run %zu-%zu after page %zu", first, end, page);
    for (; page < first; page++) learn(page, false);
    for (; page < end; page++) learn(page, true);
  }
  return page;
}

static void scan(struct run run) {
  struct os_range rest = {(uintptr_t)page_at(run.first), (uintptr_t)page_at(run.first + run.count)}, written[ARRAY_MAX];
  bool protects = rng_one_in(&model.rng, 2);
  size_t page = run.first;
  while (rest.start < rest.end) {
    size_t capacity = 1 + rng_below(&model.rng, ARRAY_MAX), count;
    int error = os_dirty_scan(&rest, protects, written, capacity, &count);
    REQUIRE(error == 0 && count <= capacity, "scan: %d, %zu runs in %zu", error, count, capacity);
    page = learn_runs(written, count, page);
    size_t reached = (rest.start - (uintptr_t)model.start) / model.page_bytes;
    for (; page < reached; page++) learn(page, false);
  }
  REQUIRE(page == run.first + run.count, "page %zu", page);
  if (protects) expect_run(run, expect_clean);
}

/* ---- the random walk ---- */

static const struct {
  void (*act)(struct run run);
  unsigned weight;
  size_t longest; /* pages of a run */
  bool on_guards; /* may be done where guards are */
} operations[] = {
    {store, 30, 64, false},
    {store_by_system_call, 10, READ_MAX, false},
    {store_in_other_thread, 4, 100, false},
    {load, 8, 64, false},
    {populate, 4, 600, false},
    {release, 8, 1000, true},
    {guard, 2, 8, false},
    {unguard, 3, 4096, true},
    {protect, 10, 2000, true},
    {allow, 6, 600, true},
    {join, 2, 1, true},
    {cool, 3, 1000, true},
    {advise, 2, 2000, true},
    {watch, 1, 2000, true},
    {scan, 20, 4096, true},
};

static void step(void) {
  unsigned sum = 0, i = 0;
  for (size_t k = 0; k < TEST_COUNT_OF(operations); k++) sum += operations[k].weight;
  for (size_t pick = rng_below(&model.rng, sum); pick >= operations[i].weight; i++) pick -= operations[i].weight;
  struct run run = random_run(min_size(operations[i].longest, model.pages));
  if (operations[i].on_guards || !has_guard(run)) operations[i].act(run);
}

static int open_file(size_t bytes) {
  char *text = malloc(bytes);
  int file = memfd_create("pages", MFD_CLOEXEC);
  REQUIRE(text != NULL && file >= 0, "memfd_create: %s", strerror(errno));
  REQUIRE(write(file, memset(text, 3, bytes), bytes) == (ssize_t)bytes, "write: %s", strerror(errno));
  free(text);
  return file;
}

static void walk(bool huge, size_t steps) {
  model = (struct model){.page_bytes = os_page_bytes(), .pages = RANGE_BYTES / os_page_bytes()};
  model.rng = test_start(huge ? "huge pages" : "small pages");
  model.start = os_reserve(RANGE_BYTES, max_size(os_page_bytes(), os_huge_page_bytes()));
  REQUIRE(model.start != NULL && model.pages <= PAGES_MAX, "reserve");
  model.unit = huge ? os_huge_page_bytes() / model.page_bytes : 1;
  model.reads_give_memory = test_reads_give_memory();
  model.file = open_file(READ_MAX * model.page_bytes);
  for (size_t i = 0; i < model.pages; i++) model.may_be_empty[i] = true;
  REQUIRE(os_dirty_watch(model.start, RANGE_BYTES) == 0 && os_commit(model.start, RANGE_BYTES) == 0, "watch");
  os_advise_huge(model.start, RANGE_BYTES, huge);
  for (size_t i = 0; i < steps; i++) step();
  scan((struct run){0, model.pages});
  os_unmap(model.start, RANGE_BYTES);
  close(model.file);
}

static void small_pages_agree(void **state) {
  (void)state;
  walk(false, test_steps(30000));
}

static void huge_pages_agree(void **state) {
  (void)state;
  if (os_huge_page_bytes() == 0 || os_huge_page_bytes() > RANGE_BYTES / 2) skip();
  walk(true, test_steps(30000));
}

/* ---- writing while scanning ---- */

enum { WRITERS = 2 };

/* Words that grow, one for each writer and page: what the program stores. */
struct race {
  char *start;
  size_t bytes;
  size_t stores; /* atomic; how many were made */
  uint32_t quit; /* atomic */
};

static uint64_t *race_word(const struct race *race, size_t page, size_t writer) {
  return (uint64_t *)(void *)(race->start + page * os_page_bytes()) + writer;
}

struct writer {
  struct race *race;
  struct rng rng;
  size_t number;
};

static void *write_until_quit(void *argument) {
  struct writer *writer = argument;
  struct race *race = writer->race;
  while (atomic_load_acquire(&race->quit) == 0) {
    uint64_t *word = race_word(race, rng_below(&writer->rng, race->bytes / os_page_bytes()), writer->number);
    atomic_store_relaxed(word, *word + 1);
    atomic_add_relaxed(&race->stores, (size_t)1);
  }
  return NULL;
}

/* Copies what is reported. */
static void harvest(const struct race *race, uint64_t (*copy)[WRITERS]) {
  struct os_range rest = {(uintptr_t)race->start, (uintptr_t)race->start + race->bytes}, written[ARRAY_MAX];
  while (rest.start < rest.end) {
    size_t count;
    REQUIRE(os_dirty_scan(&rest, true, written, ARRAY_MAX, &count) == 0, "scan");
    for (size_t i = 0; i < count; i++) {
      size_t page = (written[i].start - (uintptr_t)race->start) / os_page_bytes();
      size_t end = (written[i].end - (uintptr_t)race->start) / os_page_bytes();
      for (; page < end; page++) {
        for (size_t k = 0; k < WRITERS; k++) copy[page][k] = atomic_load_relaxed(race_word(race, page, k));
      }
    }
  }
}

/* Huge pages are split by the first stores; so they are joined now and then. */
static void run_race(bool huge, size_t stores) {
  static uint64_t copy[PAGES_MAX][WRITERS];
  memset(copy, 0, sizeof copy);
  struct race race = {.bytes = (size_t)4 << 20};
  struct rng rng = test_start(huge ? "race on huge pages" : "race on small pages");
  race.start = os_reserve(race.bytes, max_size(os_page_bytes(), os_huge_page_bytes()));
  REQUIRE(race.start != NULL && os_commit(race.start, race.bytes) == 0, "out of memory");
  REQUIRE(os_dirty_watch(race.start, race.bytes) == 0, "watch");
  os_advise_huge(race.start, race.bytes, huge);

  struct writer writers[WRITERS];
  pthread_t threads[WRITERS];
  for (size_t i = 0; i < WRITERS; i++) {
    writers[i] = (struct writer){&race, {rng_next(&rng)}, i};
    REQUIRE(pthread_create(&threads[i], NULL, write_until_quit, &writers[i]) == 0, "pthread_create");
  }
  for (size_t round = 0; atomic_load_relaxed(&race.stores) < stores; round++) {
    harvest(&race, copy);
    if (huge && round % 16 == 0) os_dirty_join(race.start, race.bytes);
  }
  atomic_store_release(&race.quit, 1u);
  for (size_t i = 0; i < WRITERS; i++) pthread_join(threads[i], NULL);
  harvest(&race, copy);

  uint64_t sum = 0;
  for (size_t page = 0; page < race.bytes / os_page_bytes(); page++) {
    for (size_t i = 0; i < WRITERS; i++) {
      uint64_t word = *race_word(&race, page, i);
      REQUIRE(copy[page][i] == word, "page %zu: %" PRIu64 " stores, seen %" PRIu64, page, word, copy[page][i]);
      sum += word;
    }
  }
  REQUIRE(sum == race.stores, "%" PRIu64 " of %zu stores", sum, race.stores);
  os_unmap(race.start, race.bytes);
}

static void no_store_is_missed(void **state) {
  (void)state;
  run_race(false, test_steps(200000));
  if (os_huge_page_bytes() != 0) run_race(true, test_steps(200000));
}

int main(void) {
  os_init();
  int error = os_dirty_open();
  if (error != 0) {
    printf("os_dirty_open: %s; skipped\n", strerror(-error));
    return TEST_SKIPPED;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_pages_agree),
      cmocka_unit_test(huge_pages_agree),
      cmocka_unit_test(no_store_is_missed),
  };
  return test_run_group(tests);
}
