/* Counts the instructions that a program runs under qemu's user emulation, those of the engine's kernels apart:
 *
 *   cc -shared -fPIC -o instructions.so instructions.c
 *   qemu-aarch64 -plugin ./instructions.so PROGRAM...
 *
 * and writes one line to standard error at the end. Counts of several threads at once may lose some. The functions are
 * those of qemu's plugin interface, version 1, declared here because Debian has no header for them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tb;
struct insn;
extern size_t qemu_plugin_tb_n_insns(const struct tb *);
extern struct insn *qemu_plugin_tb_get_insn(const struct tb *, size_t);
extern char *qemu_plugin_insn_disas(const struct insn *);
extern const char *qemu_plugin_insn_symbol(const struct insn *);
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct tb *));
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct insn *, int, void *, uint64_t);
extern void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void *), void *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { ALL, KERNELS, VECTOR, SCALAR, COUNTERS };
static uint64_t counters[COUNTERS];

/* Whether a mnemonic multiplies or adds floats: in a vector (of two on ARMv7), or one at a time. */
static int kind_of(const char *text)
{
    static const char *const names[] = {"fmla", "fmul", "fadd", "fmadd", "vmla", "vfma", "vmul", "vadd"};
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        if (strncmp(text, names[i], strlen(names[i])) == 0) {
            const char *operands = strpbrk(text, " \t");
            if (!operands)
                return ALL;
            if (text[0] == 'f')
                return strstr(operands, ".4s") ? VECTOR : strchr("s", operands[1]) ? SCALAR : ALL;
            if (!strstr(text, ".f32"))
                return ALL;
            operands += strspn(operands, " \t");
            return *operands == 'q' || *operands == 'd' ? VECTOR : *operands == 's' ? SCALAR : ALL;
        }
    }
    return ALL;
}

static void count(struct insn *insn, int counter)
{
    qemu_plugin_register_vcpu_insn_exec_inline(insn, 0, &counters[counter], 1);
}

static void translated(uint64_t id, struct tb *tb)
{
    size_t i, n = qemu_plugin_tb_n_insns(tb);
    (void)id;
    for (i = 0; i < n; i++) {
        struct insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const char *symbol = qemu_plugin_insn_symbol(insn);
        count(insn, ALL);
        if (symbol && strstr(symbol, "engine") && strstr(symbol, "simd")) {
            char *text = qemu_plugin_insn_disas(insn);
            int kind = kind_of(text);
            count(insn, KERNELS);
            if (kind != ALL)
                count(insn, kind);
            free(text);
        }
    }
}

static void ended(uint64_t id, void *data)
{
    (void)id;
    (void)data;
    fprintf(stderr, "instructions %llu kernels %llu vector %llu scalar %llu\n", (unsigned long long)counters[ALL],
            (unsigned long long)counters[KERNELS], (unsigned long long)counters[VECTOR],
            (unsigned long long)counters[SCALAR]);
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
