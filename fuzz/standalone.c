/* Runs a fuzz target without libFuzzer.
 *
 *   fuzz_TARGET FILE...              each file is an input, for instance one that libFuzzer has found
 *   fuzz_TARGET --random N [BYTES]   N random inputs of at most BYTES (1024); the seed comes from MIDDEN_TEST_SEED
 *
 * When an input stops the process it is written to a file crash-SEED-NUMBER in the working folder. */
#include "fuzz.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BYTES_DEFAULT = 1024, BYTES_LIMIT = 1 << 20 };

/* Present under address and undefined behaviour sanitizers, which end a process without a signal. */
extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

/* The input that runs now; no bytes where it is a file, which is there already. */
static const uint8_t *current;
static size_t current_bytes;
static char crash_name[64];
static int messages; /* standard error, which a target may take for itself */

static void save_current(void) {
  if (current == NULL) return;
  int file = open(crash_name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  bool saved = file >= 0 && write(file, current, current_bytes) == (ssize_t)current_bytes;
  dprintf(messages, saved ? "the input is in %s\n" : "%s cannot be written\n", crash_name);
  current = NULL;
}

static void on_signal(int signal_number) {
  save_current();
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

static void watch_for_death(void) {
  messages = dup(STDERR_FILENO);
  signal(SIGABRT, on_signal);
  if (__sanitizer_set_death_callback != NULL) {
    __sanitizer_set_death_callback(save_current);
    return;
  }
  signal(SIGSEGV, on_signal);
  signal(SIGBUS, on_signal);
  signal(SIGFPE, on_signal);
  signal(SIGALRM, on_signal);
}

static uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

static uint64_t choose_seed(void) {
  const char *text = getenv("MIDDEN_TEST_SEED");
  if (text != NULL && *text != 0) return strtoull(text, NULL, 0);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return mix((uint64_t)now.tv_nsec ^ ((uint64_t)now.tv_sec << 20) ^ (uint64_t)getpid()) >> 32;
}

static void run_random(size_t count, size_t bytes_limit) {
  uint64_t seed = choose_seed();
  uint8_t *data = malloc(bytes_limit);
  FUZZ_REQUIRE(data != NULL, "no memory");
  printf("MIDDEN_TEST_SEED=%" PRIu64 ", %zu inputs\n", seed, count);
  fflush(stdout);
  for (size_t i = 0; i < count; i++) {
    uint64_t state = mix(seed + i * 0x9e3779b97f4a7c15u);
    size_t bytes = (size_t)(mix(state++) % bytes_limit) + 1;
    for (size_t k = 0; k < bytes; k++) data[k] = (uint8_t)mix(state++);
    snprintf(crash_name, sizeof(crash_name), "crash-%" PRIu64 "-%zu", seed, i);
    current_bytes = bytes;
    current = data;
    LLVMFuzzerTestOneInput(data, bytes);
  }
  current = NULL;
  free(data);
}

static void run_file(const char *name) {
  FILE *file = fopen(name, "rb");
  FUZZ_REQUIRE(file != NULL, "%s cannot be read", name);
  uint8_t *data = malloc(BYTES_LIMIT);
  FUZZ_REQUIRE(data != NULL, "no memory");
  size_t bytes = fread(data, 1, BYTES_LIMIT, file);
  fclose(file);
  printf("%s: %zu bytes\n", name, bytes);
  fflush(stdout);
  LLVMFuzzerTestOneInput(data, bytes);
  free(data);
}

int main(int argc, char **argv) {
  bool is_random = argc >= 3 && strcmp(argv[1], "--random") == 0;
  size_t bytes = is_random && argc > 3 ? strtoull(argv[3], NULL, 0) : BYTES_DEFAULT;
  if (argc < 2 || bytes == 0 || bytes > BYTES_LIMIT) {
    fprintf(stderr, "usage: %s FILE... | --random N [BYTES]\n", argv[0]);
    return 2;
  }
  watch_for_death();
  if (is_random) {
    run_random(strtoull(argv[2], NULL, 0), bytes);
  } else {
    for (int i = 1; i < argc; i++) run_file(argv[i]);
  }
  return 0;
}
