/* Options as the program gave them, then as the environment overrides them; table in midden/options.h. */
#ifndef MIDDEN_API_OPTIONS_H
#define MIDDEN_API_OPTIONS_H

#include "midden/midden.h"

/* Fills `options` with the defaults, what is given (may be NULL) and the environment.  A bad value in the environment is
 * reported on standard error and not applied; -EINVAL for a bad value in `given`. */
int options_resolve(struct midden_options *options, const struct midden_options *given);

/* Reads a size: digits and an optional suffix K, M, G or T, of either case.  False if that is not what it is. */
bool options_parse_size(const char *text, size_t *bytes);

#endif
