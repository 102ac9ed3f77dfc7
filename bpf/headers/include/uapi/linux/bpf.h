/* Asked for by bcc; nothing of it is used. */
#pragma once
#include <linux/types.h>
