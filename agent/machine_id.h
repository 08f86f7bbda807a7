/*
 * Which machine this is, so that the ledger of a copied disk is not continued on another one.
 */
#ifndef AGENT_MACHINE_ID_H
#define AGENT_MACHINE_ID_H

#define MACHINE_ID_SIZE 65

/*
 * Writes the machine's id: environment TMS_MACHINE_ID (for containers whose own id is not lasting), else /etc/machine-id.
 * Where neither is there the id is "unknown", and a copied disk cannot be told.
 */
extern void machine_id_read(char out[MACHINE_ID_SIZE]);

#endif
