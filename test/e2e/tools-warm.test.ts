/** Each run finds a container parked: what holds for the others holds for it. */
import { toolSetting } from '../fixtures/tool-setting.ts'
import { describeFiles } from './files-suite.ts'
import { describeOutput } from './output-suite.ts'
import { describeRuns } from './runs-suite.ts'

const setting = toolSetting('warm')
describeRuns(setting)
describeOutput(setting)
describeFiles(setting)
