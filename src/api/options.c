#define _GNU_SOURCE
#include "api/options.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "alloc/sample.h"
#include "base/bits.h"
#include "base/check.h"
#include "gc/markers.h"
#include "midden/options.h"
#include "os/os.h"

enum {
  DEFAULT_PERCENT = 100,
  DEFAULT_MIN_HEAP = 4 << 20,
  DEFAULT_MARKERS_MAX = 8,
  DEFAULT_STRESS_INTERVAL = 1000,
  DEFAULT_SCAVENGE_AFTER_MS = 5 * 60 * 1000,
  DEFAULT_IDLE_COLLECT_MS = 1000,
  DEFAULT_BRIEF_STOP_US = 1000,
  PATH_BYTES = 1024
};

/* Where a text cannot be read, says so and what is allowed. */
static void report(const char *variable, const char *text, const char *values, const char *help) {
  warn("%s=%s is not understood and ignored: it takes %s; %s", variable, text, values, help);
}

bool options_parse_size(const char *text, size_t *bytes) {
  static const char suffixes[] = "kmgt";
  char *end;
  errno = 0;
  if (*text < '0' || *text > '9') return false;
  unsigned long long value = strtoull(text, &end, 10);
  if (errno != 0 || end == text) return false;
  unsigned shift = 0;
  if (*end != '\0') {
    const char *suffix = strchr(suffixes, *end | 0x20);
    if (suffix == NULL) return false;
    shift = 10 * (unsigned)(suffix - suffixes + 1);
    end++;
  }
  if (*end != '\0' || value > SIZE_MAX >> shift) return false;
  *bytes = (size_t)value << shift;
  return true;
}

/* Not as the program's locale has it: in Turkish I is not the capital of i. */
static char to_lower(char letter) { return letter >= 'A' && letter <= 'Z' ? (char)(letter + ('a' - 'A')) : letter; }

static bool parse_count(const char *text, long low, long high, long *count) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || value < low || value > high) return false;
  *count = value;
  return true;
}

/* ---- words ---- */

static bool begins_with(const char *text, size_t length, const char *word) {
  size_t i = 0;
  while (i < length && word[i] != '\0' && to_lower(text[i]) == word[i]) i++;
  return word[i] == '\0';
}

static bool is_word(const char *text, size_t length, const char *word) {
  return strlen(word) == length && begins_with(text, length, word);
}

static bool parse_stress(const char *text, size_t length, struct midden_options *options) {
  char number[16];
  if (is_word(text, length, "stress")) return true;
  if (!begins_with(text, length, "stress:") || length - 7 >= sizeof number) return false;
  memcpy(number, text + 7, length - 7);
  number[length - 7] = '\0';
  long interval;
  if (!parse_count(number, 1, INT_MAX, &interval)) return false;
  options->stress_interval = (unsigned)interval;
  return true;
}

static bool parse_debug_word(const char *text, size_t length, struct midden_options *options) {
  if (is_word(text, length, "verify")) {
    options->debug |= MIDDEN_DEBUG_VERIFY;
  } else if (is_word(text, length, "poison")) {
    options->debug |= MIDDEN_DEBUG_POISON;
  } else if (is_word(text, length, "redzone")) {
    options->debug |= MIDDEN_DEBUG_REDZONE;
  } else if (is_word(text, length, "notools")) {
    options->debug |= MIDDEN_DEBUG_NO_TOOLS;
  } else if (is_word(text, length, "check")) {
    options->debug |= MIDDEN_DEBUG_CHECK;
  } else if (parse_stress(text, length, options)) {
    options->debug |= MIDDEN_DEBUG_STRESS;
  } else {
    return is_word(text, length, "none") || is_word(text, length, "0");
  }
  return true;
}

/* The environment may change; the path stays. */
static bool keep_path(const char *path, size_t length, char copy[PATH_BYTES], const char **field) {
  if (length == 0 || length >= PATH_BYTES) return false;
  memcpy(copy, path, length);
  copy[length] = '\0';
  *field = copy;
  return true;
}

static bool parse_trace_file(const char *path, size_t length, struct midden_options *options) {
  static char copy[PATH_BYTES];
  return keep_path(path, length, copy, &options->trace_file);
}

static bool parse_trace_word(const char *text, size_t length, struct midden_options *options) {
  if (is_word(text, length, "gc") || is_word(text, length, "1")) {
    options->trace = 1;
    return true;
  }
  if (begins_with(text, length, "file:")) return parse_trace_file(text + 5, length - 5, options);
  return is_word(text, length, "none") || is_word(text, length, "0");
}

static bool parse_mode_word(const char *text, size_t length, struct midden_options *options) {
  if (is_word(text, length, "stw")) {
    options->mode = MIDDEN_MODE_STW;
  } else if (is_word(text, length, "barrier")) {
    options->mode = MIDDEN_MODE_BARRIER;
  } else if (is_word(text, length, "dirty")) {
    options->mode = MIDDEN_MODE_DIRTY;
  } else {
    return is_word(text, length, "auto");
  }
  return true;
}

static bool parse_generations_word(const char *text, size_t length, struct midden_options *options) {
  if (is_word(text, length, "off")) {
    options->generations = MIDDEN_GENERATIONS_OFF;
  } else if (is_word(text, length, "always")) {
    options->generations = MIDDEN_GENERATIONS_ALWAYS;
  } else {
    return is_word(text, length, "auto");
  }
  return true;
}

/* The words of the environment take the place of what the program asks for. */

static void clear_debug(struct midden_options *options) { options->debug = options->stress_interval = 0; }

static void clear_trace(struct midden_options *options) {
  options->trace = 0;
  options->trace_file = NULL;
}

/* auto leaves it to the program: the drop-in's own choice is another than the library's. */
static void clear_mode(struct midden_options *options) { (void)options; }

static void clear_generations(struct midden_options *options) { options->generations = MIDDEN_GENERATIONS_AUTO; }

typedef bool parse_word_fn(const char *text, size_t length, struct midden_options *options);

static bool parse_words(const char *text, parse_word_fn *parse, void (*clear)(struct midden_options *options),
                        struct midden_options *options) {
  struct midden_options before = *options;
  clear(options);
  for (;;) {
    size_t length = strcspn(text, ",");
    if (!parse(text, length, options)) {
      *options = before;
      return false;
    }
    if (text[length] == '\0') return true;
    text += length + 1;
  }
}

/* ---- one parser for each type in the table; `field` is what it sets ---- */

#define mode_words parse_mode_word
#define debug_words parse_debug_word
#define trace_words parse_trace_word
#define generations_words parse_generations_word

#define PARSE_WORDS(field, low, high) ok = parse_words(text, field##_words, clear_##field, options)
#define PARSE_SIZE(field, low, high)                                             \
  do {                                                                           \
    size_t bytes = 0;                                                            \
    ok = is_word(text, strlen(text), "off") || options_parse_size(text, &bytes); \
    if (ok) options->field = max_size(bytes, low);                               \
  } while (0)
#define PARSE_COUNT(field, low, high)                           \
  do {                                                          \
    long count;                                                 \
    ok = parse_count(text, low, high, &count);                  \
    if (ok) options->field = (__typeof__(options->field))count; \
  } while (0)
/* 0 in the structure stands for the default, so "off" is -1. */
#define PARSE_SWITCH(field, low, high)            \
  do {                                            \
    long count;                                   \
    ok = parse_count(text, low, high, &count);    \
    if (ok) options->field = count != 0 ? 1 : -1; \
  } while (0)
#define PARSE_PATH(field, low, high)                           \
  do {                                                         \
    static char copy[PATH_BYTES];                              \
    ok = keep_path(text, strlen(text), copy, &options->field); \
  } while (0)
#define PARSE_PERCENT(field, low, high)       \
  do {                                        \
    if (is_word(text, strlen(text), "off")) { \
      options->field = -1;                    \
      ok = true;                              \
    } else {                                  \
      PARSE_COUNT(field, low, high);          \
    }                                         \
  } while (0)

static bool is_usable(int signal) { return signal == 0 || os_can_suspend_by(signal); }

/* A number may be within the bounds, and the signal not to be handled, or a fault's.  0: there was none. */
static int usable_signal(int signal) {
  static const char variable[] = "MIDDEN_SUSPEND_SIGNAL";
  if (is_usable(signal)) return signal;
  report(variable, secure_getenv(variable), "the number of a signal that a program may handle, of no fault",
         "threads are stopped by it");
  return 0;
}

/* What each type takes. */
#define VALUES_SIZE(low, high) "a number of bytes, or with K, M, G or T at its end, or off"
#define VALUES_COUNT(low, high) "a number from " #low " to " #high
#define VALUES_SWITCH(low, high) VALUES_COUNT(low, high)
#define VALUES_PERCENT(low, high) VALUES_COUNT(low, high) ", or off"
#define VALUES_WORDS(low, high) "words, separated by commas"
#define VALUES_PATH(low, high) "the name of a file"

/* Not where a program runs with other privileges than who started it: they would have it write a file, or overwrite one, that
 * only the program may write. */
static void read_environment(struct midden_options *options) {
#define READ(field, variable, type, low, high, standard, help)         \
  do {                                                                 \
    const char *text = secure_getenv(variable);                        \
    bool ok = true;                                                    \
    if (text != NULL && *text != '\0') PARSE_##type(field, low, high); \
    if (!ok) report(variable, text, VALUES_##type(low, high), help);   \
  } while (0);
  int given_signal = options->suspend_signal;
  options->suspend_signal = 0;
  MIDDEN_OPTIONS(READ)
#undef READ
  options->suspend_signal = usable_signal(options->suspend_signal);
  if (options->suspend_signal == 0) options->suspend_signal = given_signal;
}

/* ---- defaults ---- */

#define DEBUG_ALL                                                                                     \
  (unsigned)(MIDDEN_DEBUG_VERIFY | MIDDEN_DEBUG_POISON | MIDDEN_DEBUG_STRESS | MIDDEN_DEBUG_REDZONE | \
             MIDDEN_DEBUG_NO_TOOLS | MIDDEN_DEBUG_CHECK)

/* What the environment may say a field may be as well; 0 stands for the default, -1 for what is off. */
#define WITHIN(value, low, high) ((value) == 0 || ((long)(value) >= (low) && (long)(value) <= (high)))
#define WITHIN_COUNT(field, low, high) WITHIN(options->field, low, high)
#define WITHIN_SWITCH(field, low, high) (options->field == -1 || WITHIN(options->field, low, high))
#define WITHIN_PERCENT(field, low, high) WITHIN_SWITCH(field, low, high)
#define WITHIN_SIZE(field, low, high) true
#define WITHIN_WORDS(field, low, high) true
#define WITHIN_PATH(field, low, high) true

static bool are_numbers_within(const struct midden_options *options) {
#define AND_WITHIN(field, variable, type, low, high, standard, help) &&WITHIN_##type(field, low, high)
  return true MIDDEN_OPTIONS(AND_WITHIN);
#undef AND_WITHIN
}

static bool is_valid(const struct midden_options *options) {
  return are_numbers_within(options) && options->markers <= MARKERS_MAX && options->trace <= 1 &&
         is_usable(options->suspend_signal) && options->profile_sample_bytes <= SAMPLE_DISTANCE_MAX &&
         options->mode >= MIDDEN_MODE_AUTO && options->mode <= MIDDEN_MODE_DIRTY &&
         options->generations >= MIDDEN_GENERATIONS_AUTO && options->generations <= MIDDEN_GENERATIONS_ALWAYS &&
         (options->debug & ~DEBUG_ALL) == 0;
}

static void fill_defaults(struct midden_options *options) {
  if (options->percent == 0) options->percent = DEFAULT_PERCENT;
  if (options->memory_limit_bytes == 0) options->memory_limit_bytes = SIZE_MAX;
  if (options->max_heap_bytes == 0) options->max_heap_bytes = SIZE_MAX;
  if (options->min_heap_bytes == 0) options->min_heap_bytes = DEFAULT_MIN_HEAP;
  if (options->initial_heap_bytes == 0) options->initial_heap_bytes = options->min_heap_bytes;
  if (options->markers == 0) options->markers = (unsigned)min_size(os_processor_count(), DEFAULT_MARKERS_MAX);
  if (options->background == 0) options->background = 1;
  if (options->scavenge_after_ms == 0) options->scavenge_after_ms = DEFAULT_SCAVENGE_AFTER_MS;
  if (options->idle_collect_ms == 0) options->idle_collect_ms = DEFAULT_IDLE_COLLECT_MS;
  if (options->brief_stop_us == 0) options->brief_stop_us = DEFAULT_BRIEF_STOP_US;
  if (options->stress_interval == 0) options->stress_interval = DEFAULT_STRESS_INTERVAL;
}

int options_resolve(struct midden_options *options, const struct midden_options *given) {
  *options = (struct midden_options){.size = sizeof *options};
  if (given != NULL) {
    /* An older program's structure is shorter: what it lacks stays 0. */
    if (given->size < sizeof given->size) return -EINVAL;
    memcpy(options, given, min_size(given->size, sizeof *options));
    options->size = sizeof *options;
    if (!is_valid(options)) return -EINVAL;
  }
  read_environment(options);
  fill_defaults(options);
  return 0;
}
