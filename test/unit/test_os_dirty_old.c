/* os: which pages were written, on kernels before 6.9.  Asked for written pages alone, these take some entries of pages in swap
 * space, or on their way to another place in memory, for protected ones (pagemap_scan_pmd_entry, repaired by "fs/proc/task_mmu:
 * fix uffd-wp confusion").  Here all pages are such to that question (--wrap, see cmake/tests.cmake). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include <cmocka.h>

#include "os/os_dirty.h"
#include "support/heap_test.h"

enum { PAGES = 16 };

static const char *release; /* NULL: as it is */
static size_t rough_questions;

/* ---- the kernel ---- */

struct scan_request { /* struct pm_scan_arg */
  uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages;
  uint64_t inverted, all_of, any_of, returned;
};

#define SCAN_PAGEMAP _IOWR('f', 16, struct scan_request)

int __real_uname(struct utsname *name);
int __wrap_uname(struct utsname *name);
int __real_ioctl(int descriptor, unsigned long request, void *argument);
int __wrap_ioctl(int descriptor, unsigned long request, void *argument);

int __wrap_uname(struct utsname *name) {
  int error = __real_uname(name);
  if (error == 0 && release != NULL) snprintf(name->release, sizeof name->release, "%s", release);
  return error;
}

int __wrap_ioctl(int descriptor, unsigned long request, void *argument) {
  struct scan_request *scan = argument;
  int found = __real_ioctl(descriptor, request, argument);
  if (request != SCAN_PAGEMAP || found < 0 || scan->inverted != 0 || scan->any_of != 0) return found;
  rough_questions++;
  if (release == NULL) return found;
  scan->walk_end = scan->end;
  return 0;
}

/* ---- the test ---- */

static size_t written_of(char *pages, size_t bytes) {
  struct os_range rest = {(uintptr_t)pages, (uintptr_t)pages + bytes}, written[2];
  size_t count;
  REQUIRE(os_dirty_scan(&rest, false, written, TEST_COUNT_OF(written), &count) == 0, "os_dirty_scan");
  REQUIRE(rest.start == rest.end && count <= 1, "%zu runs", count);
  return count == 0 ? 0 : written[0].end - written[0].start;
}

static void open_on(const char *kernel) {
  os_dirty_close();
  release = kernel;
  REQUIRE(os_dirty_open() == 0, "os_dirty_open");
  rough_questions = 0;
}

static void write_and_scan(void) {
  size_t page = os_page_bytes(), bytes = PAGES * page;
  char *pages = os_map(bytes);
  REQUIRE(pages != NULL && os_dirty_watch(pages, bytes) == 0, "os_dirty_watch");
  for (size_t i = 0; i < PAGES; i++) ((volatile char *)pages)[i * page] = 1;
  REQUIRE(os_dirty_protect(pages, bytes) == 0, "os_dirty_protect");
  for (size_t i = 4; i < 7; i++) ((volatile char *)pages)[i * page] = 1;
  assert_int_equal(written_of(pages, bytes), 3 * page);
  os_unmap(pages, bytes);
}

static void old_ones_are_not_asked_for_written_pages_alone(void **state) {
  static const char *const kernels[] = {"6.7.12", "6.8.0-31-generic", "6.8", "unknown"};
  (void)state;
  for (size_t i = 0; i < TEST_COUNT_OF(kernels); i++) {
    open_on(kernels[i]);
    write_and_scan();
    assert_int_equal(rough_questions, 0);
  }
}

static void new_ones_are(void **state) {
  struct utsname name;
  (void)state;
  open_on(NULL);
  write_and_scan();
  REQUIRE(uname(&name) == 0, "uname");
  if (strtoul(name.release, NULL, 10) >= 7 || strncmp(name.release, "6.1", 3) == 0) assert_true(rough_questions != 0);
}

int main(void) {
  os_init();
  if (os_dirty_open() != 0) return TEST_SKIPPED;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(old_ones_are_not_asked_for_written_pages_alone),
      cmocka_unit_test(new_ones_are),
  };
  return test_run_group(tests);
}
