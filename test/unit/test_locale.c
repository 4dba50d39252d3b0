/* A program may have a locale in which numbers have a comma and I is not the capital of i.  Turkish is one for both: the trace has
 * its points, and what the options say in capitals is understood.
 *
 * The locale is made for the test; where that cannot be done it is skipped. */
#include <locale.h>
#include <unistd.h>

#include "support/heap_test.h"

#define NAME "tr_TR.UTF-8"

static bool has_locale(const char *folder) {
  char command[128];
  snprintf(command, sizeof command, "localedef -i tr_TR -f UTF-8 %s/" NAME " >/dev/null 2>&1", folder);
  return system(command) == 0 && setenv("LOCPATH", folder, 1) == 0 && setlocale(LC_ALL, NAME) != NULL;
}

static void remove_folder(const char *folder) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  REQUIRE(system(command) == 0, "%s stays", folder);
}

static int collect(void *unused) {
  (void)unused;
  setenv("MIDDEN_TRACE", "GC", 1);
  setenv("MIDDEN_DEBUG", "VERIFY", 1);
  setenv("MIDDEN_MODE", "DIRTY", 1);
  midden_collect();
  midden_release_memory();
  return 0;
}

/* Elsewhere a comma has a blank behind it. */
static bool has_decimal_comma(const char *text) {
  for (const char *comma = text; (comma = strchr(comma, ',')) != NULL; comma++) {
    if (comma[1] >= '0' && comma[1] <= '9') return true;
  }
  return false;
}

int main(void) {
  test_start("test_locale");
  char folder[] = "/tmp/test_locale.XXXXXX";
  REQUIRE(mkdtemp(folder) != NULL, "%s: %s", folder, strerror(errno));
  bool has = has_locale(folder);
  remove_folder(folder);
  if (!has) return TEST_SKIPPED;
  REQUIRE(strcmp(localeconv()->decimal_point, ",") == 0, "the locale has another point");

  struct test_outcome outcome = test_child(collect, NULL, 60);
  REQUIRE(outcome.status == 0, "status 0x%x: %s", (unsigned)outcome.status, outcome.message);
  REQUIRE(strstr(outcome.message, "understood") == NULL, "%s", outcome.message);
  REQUIRE(strstr(outcome.message, "midden: gc 1 @0.") != NULL && strstr(outcome.message, "midden: release @0.") != NULL,
          "%s", outcome.message);
  REQUIRE(!has_decimal_comma(outcome.message), "%s", outcome.message);
  return 0;
}
