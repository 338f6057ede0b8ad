/**
 * The requests that are sent, each in one version that Apache Kafka 3.9 to 4.3 take: nothing is negotiated.
 *
 * Produce 11, AddPartitionsToTxn 3, AddOffsetsToTxn 4, TxnOffsetCommit 4 and EndTxn 4 are the first transaction protocol;
 * the versions above belong to the second, where brokers bump the epoch at each end, and the two do not mix.
 * AddPartitionsToTxn from version 4 on is for brokers.
 */
export {
  addOffsetsToTxnV4 as AddOffsetsToTxn,
  addPartitionsToTxnV3 as AddPartitionsToTxn,
  createTopicsV7 as CreateTopics,
  deleteTopicsV6 as DeleteTopics,
  describeConfigsV4 as DescribeConfigs,
  describeGroupsV5 as DescribeGroups,
  describeProducersV0 as DescribeProducers,
  describeTransactionsV0 as DescribeTransactions,
  endTxnV4 as EndTxn,
  fetchV13 as Fetch,
  findCoordinatorV4 as FindCoordinator,
  heartbeatV4 as Heartbeat,
  initProducerIdV5 as InitProducerId,
  joinGroupV9 as JoinGroup,
  leaveGroupV5 as LeaveGroup,
  listGroupsV4 as ListGroups,
  listOffsetsV7 as ListOffsets,
  listTransactionsV0 as ListTransactions,
  metadataV12 as Metadata,
  offsetCommitV8 as OffsetCommit,
  offsetFetchV8 as OffsetFetch,
  produceV11 as Produce,
  syncGroupV5 as SyncGroup,
  txnOffsetCommitV4 as TxnOffsetCommit,
} from "@platformatic/kafka"
