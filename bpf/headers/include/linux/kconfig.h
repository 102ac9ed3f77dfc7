/* What bcc's helpers.h wants to be told of the kernel's configuration. */
#define CONFIG_BPF_SYSCALL 1
