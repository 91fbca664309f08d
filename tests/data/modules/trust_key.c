// SPDX-License-Identifier: GPL-2.0-only
/*
 * Puts a certificate into a keyring of the kernel, as the kernel's own load_certificate_list() does at boot
 * (certs/common.c, certs/system_keyring.c before 5.13). User space cannot: these keyrings are restricted.
 */
#include <linux/err.h>
#include <linux/key.h>
#include <linux/module.h>

static int keyring;
module_param(keyring, int, 0);
MODULE_PARM_DESC(keyring, "serial number, as /proc/keys has it");

static unsigned char certificate[4096];
static unsigned int length;
module_param_array(certificate, byte, &length, 0);
MODULE_PARM_DESC(certificate, "X.509 in DER");

static int __init trust_key_init(void)
{
	const key_perm_t perm = KEY_POS_SEARCH | KEY_POS_VIEW | KEY_USR_VIEW | KEY_USR_READ;
	key_ref_t ring = lookup_user_key(keyring, 0, KEY_NEED_SEARCH);
	key_ref_t key;

	if (IS_ERR(ring))
		return PTR_ERR(ring);
	key = key_create_or_update(make_key_ref(key_ref_to_ptr(ring), true), "asymmetric", NULL,
				   certificate, length, perm,
				   KEY_ALLOC_NOT_IN_QUOTA | KEY_ALLOC_BUILT_IN |
				   KEY_ALLOC_BYPASS_RESTRICTION);
	key_ref_put(ring);
	if (IS_ERR(key))
		return PTR_ERR(key);
	pr_info("trust_key: %s\n", key_ref_to_ptr(key)->description);
	key_ref_put(key);
	return 0;
}

static void __exit trust_key_exit(void)
{
}

module_init(trust_key_init);
module_exit(trust_key_exit);
MODULE_LICENSE("GPL");
